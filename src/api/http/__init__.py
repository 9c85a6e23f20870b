"""The ASGI application, and what all its routes share.

===================  ================================================================================================
``application``      a request in, exactly one response out
``routing``          the row of a route, and the route of a path
``service``          what handlers use
``gate``             who sends a request, and whether they may
``limiter``          rate limits and signed requests
``requests``         requests and responses on ASGI; ``request_id``: the id of each; ``asgi``: the types
``parameters``       reads paths and queries into Structs
``commands``         reads the bodies of commands
``bodies``           the bodies of responses; ``identity_bodies``: of logins, ``webhook_bodies``
``json_bodies``      reads the JSON bodies that are no commands
``private``          seals the private texts of commands, and shows them to those who may read them
``problems``         every problem, from code to status
``live``             live feeds as server-sent events; ``sockets``: over WebSockets
``consistency``      what reads share: ``min_position``, ``as_of``, ETags, "not found"
``compression``      of long responses
``browsers``         headers of every response, and CORS
``bounds``           on the memory that clients can make this process keep
``metrics``          of the node and the read model; ``request_metrics``: of requests; ``loop_delay``: of the loop
``samples``          the last hour of this process; ``verification``: of the log, by a child
``tracing``          what HTTP needs of traces
===================  ================================================================================================
"""
