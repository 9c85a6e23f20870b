"""placeholder while the document is being written"""


def document() -> dict[str, object]:
    return {"openapi": "3.1.0", "info": {"title": "stakelog", "version": "1"}, "paths": {}}
