"""The rim: HTTP and the program. Thin: a route decodes, asks the ledger, encodes.

``contract`` what goes over the wire · ``problems`` one table from reasons to problems · ``routes`` the endpoints ·
``settings`` the environment · ``providers`` which adapter serves which port · ``app`` the ASGI application ·
``serve`` its life as a process · ``cli`` the program · ``demo`` a day of traffic · ``bench`` the measures
"""
