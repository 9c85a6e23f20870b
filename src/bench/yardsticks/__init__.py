"""What the service is compared with: the least that any service on the same parts must do.

`sqlite` commits, verifies and folds; `kafka` sends; `bare_routes` serves HTTP; `processor` decodes, encodes and
hashes.
"""
