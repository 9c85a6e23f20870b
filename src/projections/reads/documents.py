"""Everything that a read returns, less ``as_of``. Each document is in the file of its read model."""

from projections.models.bets import Bet, Bets
from projections.models.history import BalanceAt, History
from projections.models.holds import Hold, Holds
from projections.models.leaderboards import Leaderboard
from projections.models.orders import Order, Orders
from projections.models.referrals import Referrals
from projections.models.statistics import Statistics
from projections.models.transfers import SentTransfer
from projections.models.wallets import Wallet

Page = History | Bets | Holds | Orders
"""One page of a list, newest first; ``next_cursor`` is None at the end."""

Document = Wallet | BalanceAt | Bet | Hold | SentTransfer | Statistics | Referrals | Order | Leaderboard | Page
