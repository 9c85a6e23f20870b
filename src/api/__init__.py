"""HTTP and the command line. Thin: a route decodes, calls the ledger or the reads, and encodes.

===============  ====================================================================================================
``routes``       the route table and its handlers
``http``         the ASGI application, and what all routes share: requests, responses, problems, metrics
``sealing``      seals on time, and their copies outside
``webhooks``     events sent to HTTP endpoints
``identity``     clients, their secrets and tokens, and what each role may do
``limits``       rate limits, and signed requests
``nodes``        the client and the messages of the nodes' own routes
``tracing``      traces by OpenTelemetry
``openapi``      the OpenAPI document
``page``         the files of the operator's page
``composition``  settings, and the container that opens the adapters they name
``cli``          the program ``stakelog``
===============  ====================================================================================================
"""
