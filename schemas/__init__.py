"""JSON Schemas, the OpenAPI document and the conformance vectors; ``generate`` writes them."""
