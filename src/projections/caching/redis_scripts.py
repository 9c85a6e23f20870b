"""The Lua scripts that run inside Redis, each of them atomic. ``tests/conformance/memory_cache.py`` is their model in
Python.

===================================  ==============================================================================
``stakelog:1:mark:<partition>``      hash: gen epoch seq tag at floor seen, and ``d:<asset>:<day>`` → the seq at which
                                     the day's leaderboards last changed
``stakelog:1:recent:<partition>``    sorted set: user → the seq of the user's last change, and a member "" that shows
                                     that the set was not lost
``stakelog:1:<kind>:<user>``         hash: ``@e`` epoch, ``@s`` seq, and the aggregate's rows
``stakelog:1:board:<name>:<asset>…``  hash: gen state seqs document
===================================  ==============================================================================

The 1 is the version of this format: programs of another version share no keys with these. All times are of Redis'
clock, so the clocks of the other machines do not matter. Some keys are not named in ``KEYS``: a single Redis allows
that, also one with replicas, but a Redis Cluster does not.
"""

from typing import Final

_NOW: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

_BEGIN_EPOCH: Final = (
    _NOW
    + """
local function begin_epoch(gen, epoch, seq, tag)
  redis.call('DEL', KEYS[1], KEYS[2])
  redis.call('HSET', KEYS[1], 'gen', gen, 'epoch', epoch, 'seq', seq, 'tag', tag, 'at', now, 'floor', seq, 'seen', 0)
  redis.call('ZADD', KEYS[2], '9007199254740992', '')
  return 'begun'
end
"""
)

APPLY: Final = (
    _BEGIN_EPOCH
    + """
local gen, epoch, recent_max = ARGV[1], ARGV[2], tonumber(ARGV[8])
local before, before_tag, after, after_tag = tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5]), ARGV[6]
local mark = redis.call('HMGET', KEYS[1], 'gen', 'seq', 'tag', 'epoch')
if mark[1] ~= gen then return begin_epoch(gen, epoch, after, after_tag) end
local seq = tonumber(mark[2])
local reset = ARGV[7] == '1'
if seq == after and mark[3] == after_tag and not reset then
  redis.call('HSET', KEYS[1], 'at', now)
  return 'known'
end
if seq > after then return 'late' end
if seq ~= before or mark[3] ~= before_tag or reset then return begin_epoch(gen, epoch, after, after_tag) end
local update = cmsgpack.unpack(ARGV[9])
for user, aggregates in pairs(update.changed) do
  redis.call('ZADD', KEYS[2], after, user)
  for kind, fields in pairs(aggregates) do
    local key = 'stakelog:1:' .. kind .. ':' .. user
    local cached = redis.call('HMGET', key, '@e', '@s')
    if cached[1] then
      local at = tonumber(cached[2])
      if cached[1] ~= mark[4] or (at > before and at < after) then
        redis.call('DEL', key)
      elseif at <= before then
        fields[#fields + 1] = '@s'
        fields[#fields + 1] = after
        redis.call('HSET', key, unpack(fields))
      end
    end
  end
end
for _, day in ipairs(update.days) do redis.call('HSET', KEYS[1], 'd:' .. day, after) end
local over = redis.call('ZCARD', KEYS[2]) - 1 - recent_max
if over > 0 then
  local last = redis.call('ZRANGE', KEYS[2], over - 1, over - 1, 'WITHSCORES')
  redis.call('HSET', KEYS[1], 'floor', last[2])
  redis.call('ZREMRANGEBYRANK', KEYS[2], 0, over - 1)
end
redis.call('HSET', KEYS[1], 'seq', after, 'tag', after_tag, 'at', now)
return 'applied'
"""
)
"""KEYS: mark, recent. ARGV: generation, new epoch, seq and tag before, seq and tag after, reset, recent max,
update."""

CONFIRM: Final = (
    _BEGIN_EPOCH
    + """
local gen, epoch, seq, tag = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local mark = redis.call('HMGET', KEYS[1], 'gen', 'seq', 'tag')
if mark[1] == gen then
  local at = tonumber(mark[2])
  if at == seq and mark[3] == tag then
    redis.call('HSET', KEYS[1], 'at', now)
    return 'known'
  end
  if at > seq then return 'late' end
end
return begin_epoch(gen, epoch, seq, tag)
"""
)
"""KEYS: mark, recent. ARGV: generation, new epoch, seq, tag."""

GET: Final = (
    _NOW
    + """
local mark = redis.call('HMGET', KEYS[1], 'gen', 'epoch', 'seq', 'at', 'seen')
if not mark[1] or now < tonumber(mark[4]) or now - mark[4] > tonumber(ARGV[1]) then return {} end
local cached = redis.call('HGETALL', KEYS[2])
local epoch, seq = nil, tonumber(mark[3])
for at = 1, #cached, 2 do
  local name, value = cached[at], cached[at + 1]
  if name == '@e' then epoch = value elseif name == '@s' then seq = math.max(seq, value) end
end
if epoch ~= mark[2] or seq < tonumber(mark[5]) then return {mark[1], mark[2], mark[3]} end
return {mark[1], mark[2], string.format('%.0f', seq), cached}
"""
)
"""KEYS: mark, rows. ARGV: for how many ms a mark is trusted. Returns {}, or generation, epoch, seq, and rows."""

PUT: Final = """
local seq = tonumber(ARGV[3])
local mark = redis.call('HMGET', KEYS[1], 'gen', 'epoch', 'seq', 'floor', 'seen')
if mark[1] ~= ARGV[1] or mark[2] ~= ARGV[2] then return 'other' end
if seq > tonumber(mark[5]) then redis.call('HSET', KEYS[1], 'seen', ARGV[3]) end
if seq < tonumber(mark[3]) then
  if seq < tonumber(mark[4]) or not redis.call('ZSCORE', KEYS[2], '') then return 'old' end
  local changed = redis.call('ZSCORE', KEYS[2], ARGV[4])
  if changed and tonumber(changed) > seq then return 'old' end
end
local cached = redis.call('HMGET', KEYS[3], '@e', '@s')
if cached[1] == mark[2] and tonumber(cached[2]) >= seq then return 'newer' end
redis.call('DEL', KEYS[3])
redis.call('HSET', KEYS[3], '@e', mark[2], '@s', ARGV[3], unpack(ARGV, 6))
redis.call('PEXPIRE', KEYS[3], ARGV[5])
return 'put'
"""
"""KEYS: mark, recent, rows. ARGV: generation, epoch, seq, user, ms to live, field, row, field, row, …"""

_STATE: Final = """
local function state_of(mark, epoch, asset, first, last)
  local days, parts = {}, {epoch}
  for day = first, last - 1 do days[#days + 1] = 'd:' .. asset .. ':' .. day end
  for _, seq in ipairs(redis.call('HMGET', mark, unpack(days))) do parts[#parts + 1] = seq or '' end
  return table.concat(parts, ',')
end
"""

GET_BOARD: Final = (
    _NOW
    + _STATE
    + """
local gen, states, seqs, seen = nil, {}, {}, {}
for at = 2, #KEYS do
  local mark = redis.call('HMGET', KEYS[at], 'gen', 'epoch', 'seq', 'at', 'seen')
  if not mark[1] or now < tonumber(mark[4]) or now - mark[4] > tonumber(ARGV[1]) then return {} end
  if gen and gen ~= mark[1] then return {} end
  gen = mark[1]
  states[at - 1] = state_of(KEYS[at], mark[2], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]))
  seqs[at - 1], seen[at - 1] = mark[3], mark[5]
end
local state = table.concat(states, ';')
local cached = redis.call('HMGET', KEYS[1], 'gen', 'state', 'seqs', 'document')
if cached[1] ~= gen or cached[2] ~= state then return {gen, state, seqs} end
local true_at, at = {}, 0
for seq in string.gmatch(cached[3], '[^,]+') do
  at = at + 1
  local newer = tonumber(seq) > tonumber(seqs[at]) and seq or seqs[at]
  if tonumber(newer) < tonumber(seen[at]) then return {gen, state, seqs} end
  true_at[at] = newer
end
return {gen, state, seqs, true_at, cached[4]}
"""
)
"""KEYS: board, every mark. ARGV: for how many ms a mark is trusted, asset, first day, the day after the last."""

PUT_BOARD: Final = (
    _STATE
    + """
local gen, state, asset, first, last = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local states, seqs = {}, {}
for at = 2, #KEYS do
  local mark = redis.call('HMGET', KEYS[at], 'gen', 'epoch', 'seen')
  if mark[1] ~= gen then return 'other' end
  states[at - 1] = state_of(KEYS[at], mark[2], asset, first, last)
  seqs[at - 1] = ARGV[6 + at]
  if tonumber(ARGV[6 + at]) > tonumber(mark[3]) then redis.call('HSET', KEYS[at], 'seen', ARGV[6 + at]) end
end
if table.concat(states, ';') ~= state then return 'old' end
local cached = redis.call('HMGET', KEYS[1], 'gen', 'state')
if cached[1] == gen and cached[2] == state then return 'known' end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'gen', gen, 'state', state, 'seqs', table.concat(seqs, ','), 'document', ARGV[6])
redis.call('PEXPIRE', KEYS[1], ARGV[7])
return 'put'
"""
)
"""KEYS: board, every mark. ARGV: generation, state, asset, first day, the day after the last, document, ms to live,
and each partition's seq."""
