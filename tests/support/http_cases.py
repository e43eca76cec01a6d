"""Requests that nobody may send, each with the status that ends its connection. No test here.

Gathered from RFC 9112, RFC 9110, RFC 3986, and from what has split one reader's view of a
stream from another's: request smuggling in its known forms. LIMITS are those of a reader that
the cases are made for.
"""

from __future__ import annotations

MAX_HEAD, MAX_FIELDS, MAX_BODY = 1000, 20, 7096


def head(*lines: bytes, start: bytes = b"GET /chsk HTTP/1.1") -> bytes:
    return b"\r\n".join([start, b"Host: localhost", *lines, b"", b""])


def line(start: bytes) -> bytes:
    return head(start=start)


def host(value: bytes) -> bytes:
    return b"GET /chsk HTTP/1.1\r\nHost:" + value + b"\r\n\r\n"


def post(*lines: bytes, body: bytes = b"") -> bytes:
    return head(*lines, start=b"POST /chsk HTTP/1.1") + body


def chunked(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked", body=body)


TLS_HELLO = bytes.fromhex(
    "16030100c4010000c00303000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20"
    "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f0006130113021303"
)

MALFORMED: dict[str, tuple[bytes, int]] = {
    # not HTTP/1.1 at all
    "TLS hello": (TLS_HELLO, 400),
    "SSL 2 hello": (b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10", 400),
    "SOCKS 4": (b"\x04\x01\x00\x50\x7f\x00\x00\x01user\x00", 400),
    "SOCKS 5": (b"\x05\x01\x00", 400),
    "proxy protocol 2": (b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c", 400),
    "proxy protocol 1": (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + head(), 400),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "HTTP/0.9": (b"GET /\r\n\r\n", 400),
    "HTTP/0.9 with its version": (line(b"GET / HTTP/0.9"), 505),
    "SSH": (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", 400),
    "SMTP": (b"EHLO example.org\r\n\r\n", 400),
    "an answer": (b"HTTP/1.1 200 OK\r\nHost: h\r\n\r\n", 400),
    "a frame": (b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", 400),
    "NULs": (b"\0" * 64, 400),
    "byte order mark": (b"\xef\xbb\xbf" + head(), 400),
    "RTSP": (line(b"OPTIONS /chsk RTSP/1.0"), 400),
    # request line
    "no version": (line(b"GET /chsk"), 400),
    "no target": (line(b"GET HTTP/1.1"), 400),
    "empty target": (line(b"GET  HTTP/1.1"), 400),
    "no method": (line(b" /chsk HTTP/1.1"), 400),
    "two spaces before the target": (line(b"GET  /chsk HTTP/1.1"), 400),
    "two spaces behind the target": (line(b"GET /chsk  HTTP/1.1"), 400),
    "space behind the version": (line(b"GET /chsk HTTP/1.1 "), 400),
    "tab for a space": (line(b"GET\t/chsk\tHTTP/1.1"), 400),
    "space in the target": (line(b"GET /chsk /x HTTP/1.1"), 400),
    "small letters": (line(b"GET /chsk http/1.1"), 400),
    "version 1.2": (line(b"GET /chsk HTTP/1.2"), 505),
    "version 1.10": (line(b"GET /chsk HTTP/1.10"), 400),
    "version 2.0": (line(b"GET /chsk HTTP/2.0"), 505),
    "version 11.1": (line(b"GET /chsk HTTP/11.1"), 400),
    "version of one digit": (line(b"GET /chsk HTTP/1"), 400),
    "version with letters": (line(b"GET /chsk HTTP/x.y"), 400),
    "unknown method": (line(b"BREW /chsk HTTP/1.1"), 501),
    "method in small letters": (line(b"get /chsk HTTP/1.1"), 501),
    "method that is no token": (line(b"G(ET /chsk HTTP/1.1"), 400),
    "method of 500 letters": (line(b"G" * 500 + b" /chsk HTTP/1.1"), 501),
    "method without an end": (b"G" * 1500, 431),
    "target past the limit": (line(b"GET /" + b"x" * 1500 + b" HTTP/1.1"), 431),
    "CONNECT": (line(b"CONNECT example.org:443 HTTP/1.1"), 501),
    "relative path": (line(b"GET chsk HTTP/1.1"), 400),
    "star with GET": (line(b"GET * HTTP/1.1"), 400),
    "another scheme": (line(b"GET ftp://localhost/chsk HTTP/1.1"), 400),
    "absolute form without a host": (line(b"GET http:///chsk HTTP/1.1"), 400),
    "absolute form with a user": (line(b"GET http://u:p@localhost/chsk HTTP/1.1"), 400),
    "absolute form with a bad port": (line(b"GET http://localhost:x/chsk HTTP/1.1"), 400),
    "absolute form with half a literal": (line(b"GET http://[::1/chsk HTTP/1.1"), 400),
    "fragment": (line(b"GET /chsk#x HTTP/1.1"), 400),
    "fragment in the query": (line(b"GET /chsk?a#x HTTP/1.1"), 400),
    "escape of no hex": (line(b"GET /ch%zzsk HTTP/1.1"), 400),
    "half an escape": (line(b"GET /chsk%4 HTTP/1.1"), 400),
    "half an escape before the query": (line(b"GET /chsk%4?a HTTP/1.1"), 400),
    "escaped NUL in the path": (line(b"GET /chsk%00.js HTTP/1.1"), 400),
    "NUL in the target": (line(b"GET /ch\0sk HTTP/1.1"), 400),
    "DEL in the target": (line(b"GET /ch\x7fsk HTTP/1.1"), 400),
    "escape character in the target": (line(b"GET /\x1b[2J HTTP/1.1"), 400),
    "letters past ASCII in the target": (line("GET /é HTTP/1.1".encode()), 400),
    # ends of lines
    "LF alone everywhere": (head().replace(b"\r\n", b"\n"), 400),
    "LF alone behind the request line": (head().replace(b"1.1\r\n", b"1.1\n"), 400),
    "LF alone at the end": (head()[:-2] + b"\n", 400),
    "CR alone everywhere": (head().replace(b"\r\n", b"\r"), 400),
    "CR alone in a value": (head(b"A: b\rContent-Length: 5"), 400),
    "LF alone in a value": (head(b"A: b\nContent-Length: 5"), 400),
    "CR twice": (head(b"A: b\r"), 400),
    "LF CR": (head().replace(b"\r\n", b"\n\r"), 400),
    "LF before the request": (b"\n" + head(), 400),
    "CR before the request": (b"\r" + head(), 400),
    "space before the request": (b" " + head(), 400),
    # fields
    "folded line": (head(b"A: b", b" c"), 400),
    "folded line with a tab": (head(b"A: b", b"\tc"), 400),
    "folded first field": (b"GET /chsk HTTP/1.1\r\n Host: localhost\r\n\r\n", 400),
    "space before the colon": (head(b"A : b"), 400),
    "tab before the colon": (head(b"A\t: b"), 400),
    "space before the colon of a length": (post(b"Content-Length : 5", body=b"hello"), 400),
    "space in a name": (head(b"A B: c"), 400),
    "no colon": (head(b"abc"), 400),
    "no name": (head(b": b"), 400),
    "NUL in a name": (head(b"A\0: b"), 400),
    "NUL in a value": (head(b"A: b\0c"), 400),
    "escape character in a value": (head(b"A: \x1b[2J"), 400),
    "DEL in a name": (head(b"A\x7f: b"), 400),
    "parenthesis in a name": (head(b"A(: b"), 400),
    "quotes in a name": (head(b'"A": b'), 400),
    "letters past ASCII in a name": (head("Ä: b".encode()), 400),
    "form feed in a value": (head(b"A: b\x0cc"), 400),
    "fields past their number": (head(*[b"A: b"] * MAX_FIELDS), 431),
    "head past its bytes": (head(b"A: " + b"x" * 1500), 431),
    "empty lines past the head's bytes": (b"\r\n" * (MAX_HEAD // 2 + 1) + head(), 431),
    "head that never ends": (head()[:-2] + b"A: b\r\n" * 500, 431),
    # Host
    "no Host": (b"GET /chsk HTTP/1.1\r\nA: b\r\n\r\n", 400),
    "no field at all": (b"GET /chsk HTTP/1.1\r\n\r\n", 400),
    "two Hosts": (head(b"Host: localhost"), 400),
    "two Hosts in HTTP/1.0": (head(b"Host: other", start=b"GET / HTTP/1.0"), 400),
    "two Hosts in one": (host(b" localhost, evil.example"), 400),
    "empty Host": (host(b""), 400),
    "blank Host": (host(b"  \t"), 400),
    "Host of a port alone": (host(b" :80"), 400),
    "Host with letters for a port": (host(b" localhost:http"), 400),
    "Host with a port past 65535": (host(b" localhost:65536"), 400),
    "Host with a signed port": (host(b" localhost:-80"), 400),
    "Host with two ports": (host(b" localhost:80:80"), 400),
    "Host with a scheme": (host(b" http://localhost"), 400),
    "Host with a path": (host(b" localhost/chsk"), 400),
    "Host with a user": (host(b" user@localhost"), 400),
    "Host with a space": (host(b" local host"), 400),
    "Host with an escape": (host(b" local%68ost"), 400),
    "Host past ASCII": (host(" höst".encode()), 400),
    "Host of 300 letters": (host(b" " + b"x" * 300), 400),
    "IPv6 without brackets": (host(b" ::1"), 400),
    "IPv6 without its end": (host(b" [::1"), 400),
    "IPv6 with letters": (host(b" [::g]"), 400),
    "IPv6 with a zone": (host(b" [fe80::1%eth0]"), 400),
    "IPv6 with a NUL": (host(b" [::1\0]"), 400),
    "IPv6 and a name": (host(b" [::1]localhost"), 400),
    "IPv4 in brackets": (host(b" [127.0.0.1]"), 400),
    "brackets around nothing": (host(b" []"), 400),
    # Content-Length
    "two lengths": (post(b"Content-Length: 5", b"Content-Length: 6", body=b"hello"), 400),
    "one length twice": (post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"), 400),
    "list of lengths": (post(b"Content-Length: 5, 5", body=b"hello"), 400),
    "negative length": (post(b"Content-Length: -5"), 400),
    "length with a plus": (post(b"Content-Length: +5", body=b"hello"), 400),
    "length in hex": (post(b"Content-Length: 0x5", body=b"hello"), 400),
    "length with a point": (post(b"Content-Length: 5.0", body=b"hello"), 400),
    "length with an underscore": (post(b"Content-Length: 1_0", body=b"hello"), 400),
    "length with a space": (post(b"Content-Length: 1 0", body=b"hello"), 400),
    "length with an exponent": (post(b"Content-Length: 1e3"), 400),
    "length in other digits": (post("Content-Length: ٥".encode(), body=b"hello"), 400),
    "empty length": (post(b"Content-Length:"), 400),
    "length of letters": (post(b"Content-Length: five", body=b"hello"), 400),
    "length past 64 bits": (post(b"Content-Length: 18446744073709551621"), 400),
    "length of 30 digits": (post(b"Content-Length: " + b"9" * 30), 400),
    "length at the edge of 63 bits": (post(b"Content-Length: 9223372036854775807"), 400),
    "length of 18 digits": (post(b"Content-Length: 999999999999999999"), 413),
    "length past the limit": (post(b"Content-Length: %d" % (MAX_BODY + 1)), 413),
    # Transfer-Encoding
    "length beside chunked": (
        post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
        400,
    ),
    "chunked beside length": (
        post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n"),
        400,
    ),
    "chunked beside length 0": (
        post(b"Transfer-Encoding: chunked", b"Content-Length: 0", body=b"0\r\n\r\n"),
        400,
    ),
    "gzip": (post(b"Transfer-Encoding: gzip"), 501),
    "gzip, then chunked": (post(b"Transfer-Encoding: gzip, chunked"), 501),
    "chunked, then gzip": (post(b"Transfer-Encoding: chunked, gzip"), 501),
    "identity": (post(b"Transfer-Encoding: identity"), 501),
    "chunked twice in a list": (post(b"Transfer-Encoding: chunked, chunked"), 501),
    "chunked twice": (post(*[b"Transfer-Encoding: chunked"] * 2), 400),
    "chunked, then identity": (
        post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"),
        400,
    ),
    "chunked in quotes": (post(b'Transfer-Encoding: "chunked"'), 501),
    "chunked with a parameter": (post(b"Transfer-Encoding: chunked;q=1"), 501),
    "xchunked": (post(b"Transfer-Encoding: xchunked"), 501),
    "chunked behind a vertical tab": (post(b"Transfer-Encoding: \x0bchunked"), 501),
    "chunked before a NUL": (post(b"Transfer-Encoding: chunked\0"), 501),
    "empty coding": (post(b"Transfer-Encoding:"), 501),
    "coding with a space before its colon": (post(b"Transfer-Encoding : chunked"), 400),
    "coding in a folded line": (post(b"Transfer-Encoding:", b" chunked"), 501),
    "coding behind a bare CR": (post(b"A: b\rTransfer-Encoding: chunked"), 400),
    "chunked in HTTP/1.0": (
        head(b"Transfer-Encoding: chunked", start=b"POST /chsk HTTP/1.0") + b"0\r\n\r\n",
        400,
    ),
    # chunks
    "chunk size of no hex": (chunked(b"xyz\r\n"), 400),
    "chunk size that is not there": (chunked(b"\r\n"), 400),
    "chunk size below zero": (chunked(b"-1\r\n"), 400),
    "chunk size with a plus": (chunked(b"+1\r\na\r\n"), 400),
    "chunk size with 0x": (chunked(b"0x1\r\na\r\n"), 400),
    "chunk size with an underscore": (chunked(b"1_0\r\n"), 400),
    "chunk size behind a space": (chunked(b" 1\r\na\r\n"), 400),
    "chunk size before a space": (chunked(b"1 \r\na\r\n"), 400),
    "chunk size before a word": (chunked(b"1 a\r\na\r\n"), 400),
    "chunk size past 64 bits": (chunked(b"10000000000000001\r\na\r\n"), 400),
    "chunk size that is negative in 64 bits": (chunked(b"ffffffffffffffff\r\na\r\n"), 400),
    "chunk size of 100 zeros": (chunked(b"0" * 100 + b"\r\n\r\n"), 400),
    "chunk past the limit": (chunked(b"%x\r\n" % (MAX_BODY + 1)), 413),
    "chunks past the limit together": (
        chunked(b"%x\r\n" % MAX_BODY + b"x" * MAX_BODY + b"\r\n1\r\n"),
        413,
    ),
    "chunk longer than it says": (chunked(b"1\r\nab\r\n0\r\n\r\n"), 400),
    "chunk shorter than it says": (chunked(b"9\r\nab\r\n0\r\n\r\n\r\n\r\n"), 400),
    "chunk without CR LF behind it": (chunked(b"1\r\na0\r\n\r\n"), 400),
    "chunk with LF alone behind it": (chunked(b"1\r\na\n0\r\n\r\n"), 400),
    "chunk with CR alone behind it": (chunked(b"1\r\na\r0\r\n\r\n"), 400),
    "chunk size ended by LF": (chunked(b"1\na\r\n0\r\n\r\n"), 400),
    "chunk size ended by CR": (chunked(b"1\ra\r\n0\r\n\r\n"), 400),
    "chunk size ended by CR CR LF": (chunked(b"1\r\r\na\r\n0\r\n\r\n"), 400),
    "NUL in an extension": (chunked(b"1;a=\0\r\na\r\n0\r\n\r\n"), 400),
    "LF in an extension": (chunked(b"1;a\nb\r\na\r\n0\r\n\r\n"), 400),
    "CR in an extension": (chunked(b"1;a\rb\r\na\r\n0\r\n\r\n"), 400),
    "extension without an end": (chunked(b"1;" + b"x" * 2000), 431),
    "extensions past the limit together": (
        chunked((b"1;" + b"x" * 400 + b"\r\na\r\n") * 3),
        431,
    ),
    "trailer without a colon": (chunked(b"0\r\nabc\r\n\r\n"), 400),
    "trailer with a space before its colon": (chunked(b"0\r\nA : b\r\n\r\n"), 400),
    "folded trailer": (chunked(b"0\r\nA: b\r\n c\r\n\r\n"), 400),
    "NUL in a trailer": (chunked(b"0\r\nA: \0\r\n\r\n"), 400),
    "trailer ended by LF": (chunked(b"0\r\nA: b\n\r\n"), 400),
    "end of a body by LF": (chunked(b"0\r\n\n"), 400),
    "trailers past their number": (chunked(b"0\r\n" + b"A: b\r\n" * (MAX_FIELDS + 1)), 431),
    "trailers past their bytes": (chunked(b"0\r\n" + (b"A: " + b"x" * 300 + b"\r\n") * 4), 431),
    # what a request asks for
    "unknown Expect": (post(b"Expect: 200-ok", b"Content-Length: 0"), 417),
    "Expect of two": (post(b"Expect: 100-continue, x", b"Content-Length: 0"), 417),
}
