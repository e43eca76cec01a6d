"""HTTP/1.1 requests: from bytes to a Request.

What lives here:

- `request`: Request, Headers, and Params, which read the head at each access. Its part `head`:
  the search for fields and parameters in the bytes of a head.
- `request_reader`: where a head and a body end, and whether a request is a valid handshake.

What may not: a socket, a response, a rule of the channel. Modules here import only `io`.
"""
