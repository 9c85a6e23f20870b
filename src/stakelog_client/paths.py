"""The path of a request from its template."""

from urllib.parse import quote


def path_of(template: str, **values: str) -> str:
    """`/v1/wallets/{user_id}` with each value percent-encoded."""
    return template.format_map({name: quote(value, safe="") for name, value in values.items()})
