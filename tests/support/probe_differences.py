"""Where our server answers a recorded probe otherwise than Sente did, case by case.

Title of a difference -> (probe, case) -> what ours did where the two differ: None where
it did nothing. The titles and the reasons stand in docs/sente.md.
"""
# ruff: noqa: E501 (cases are called what they were called when they were recorded)

from __future__ import annotations

Result = dict[str, list[str] | None]

# No difference of the servers: the recorded machine was 0.2 s late, so what came of a case
# was written down under the next.
LATE = "(late)"

DIFFERENCES: dict[str, dict[tuple[str, str], Result]] = {
    "A missing client-id is a 400": {
        ("csrf", "ws: wrong token and no client-id"): {
            "9 answer": ["400 expected a client-id, got none"]
        },
        ("csrf", "http: GET, wrong token and no client-id"): {
            "14 answer": ["400 expected a client-id, got none"]
        },
        ("edn", "ws: upgrade without client-id"): {
            "2 answer": ["400 expected a client-id, got none"]
        },
        ("edn", "ws: upgrade with blank client-id"): {
            "3 answer": ["400 expected a client-id, got none"]
        },
        ("edn", "ws: upgrade with handshake? and udt params, duplicate client-id params"): {
            "24 answer": ["400 expected one client-id, got 2"]
        },
        ("edn-http", "http: GET without client-id"): {
            "2 answer": ["400 expected a client-id, got none"]
        },
        ("edn-http", "http: GET, blank client-id"): {
            "3 answer": ["400 expected a client-id, got none"]
        },
        ("edn-http", "http: GET, client-id of spaces"): {
            "4 answer": ["400 expected a client-id, got none"]
        },
        ("edn-http", "http: POST with empty body"): {
            "61 answer": ["400 expected a client-id, got none"],
            "61 packet": None,
        },
        ("edn-http", "http: POST without client-id, no cb"): {
            "62 answer": ["400 expected a client-id, got none"],
            "62 packet": None,
        },
        ("edn-http", "http: POST without client-id, cb (1 s shown)"): {
            "63 answer": ["400 expected a client-id, got none"]
        },
        ("edn-http", "http: POST with blank client-id, cb"): {
            "64 answer": ["400 expected a client-id, got none"]
        },
        ("edn-http", "http: POST fields, content type JSON"): {
            "69 answer": ["400 expected a client-id, got none"],
            "69 packet": None,
        },
        ("edn-http", "http: POST fields, no content type"): {
            "70 answer": ["400 expected a client-id, got none"],
            "70 packet": None,
        },
        ("edn-http", "http: POST, junk body"): {
            "73 answer": ["400 expected a client-id, got none"],
            "73 packet": None,
        },
        ("handshake-data", "ws without client-id"): {
            "3 answer": ["400 expected a client-id, got none"]
        },
        (
            "timeouts",
            "lp-timeout: handshake, then a poll that gets nothing: [:chsk/timeout nil] after 20 s. At the same time a POST with cb that the app never answers, and one without client-id with cb",
        ): {"6 answer": ["400 expected a client-id, got none"], "6 packet": None},
        (
            "timeouts",
            "two parallel polls, same client-id: the newer gets the push, the older stays parked",
        ): {"users": ["ws ['wsping'] ajax ['par'] any ['par', 'wsping']"]},
        ("unauthorized", "ws without client-id"): {
            "3 answer": ["400 expected a client-id, got none"]
        },
    },
    "Bad events are refused": {
        ("edn", "ws: empty frame"): {"told": None},
        ("edn", "ws: nil"): {"told": None},
        ("edn", "ws: string envelope"): {"told": None},
        ("edn", "ws: empty vector"): {"told": None},
        ("edn", "ws: [nil nil]"): {"told": None},
        ("edn", "ws: event id without namespace"): {"told": None},
        ("edn", "ws: event with three elements"): {"told": None},
        ("edn", "ws: event is a keyword"): {"told": None},
        ("edn", "ws: event id is a string"): {"told": None},
        ("edn", "ws: event is empty vector"): {"told": None},
        ("edn", "ws: event is a list"): {"5 packet": ['[:chsk/error "l1"]'], "told": None},
        ("edn", "ws: bad event with cb id"): {"5 packet": ['[:chsk/error "cb1"]'], "told": None},
        ("edn", "ws: client ping as keyword"): {"5 packet": ['[:chsk/error "p4"]'], "told": None},
        ("edn", "ws: client ping as a list"): {"5 packet": ['[:chsk/error "p5"]'], "told": None},
        ("edn", "ws: forged :chsk/timeout"): {"told": None},
        ("edn-http", "http: POST, empty ppstr"): {"told": None},
        ("edn-http", "http: POST, nil"): {"told": None},
        ("edn-http", "http: POST, bad event, no cb"): {"told": None},
        ("edn-http", "http: POST, event with three elements, no cb"): {"told": None},
        ("edn-http", "http: POST without ppstr"): {"told": None},
    },
    "A pong that asks is nothing special": {
        ("edn", "ws: pong with id"): {"told": ["[:chsk/ws-pong nil] of probe at probe/1, asks"]},
    },
    "Forged events are refused": {
        ("edn", "ws: forged uidport-open"): {"told": None},
        ("edn", "ws: forged uidport-close"): {"told": None},
        ("edn", "ws: forged handshake"): {"told": None},
        ("edn", "ws: forged :chsk/close"): {"told": None},
        ("edn-http", "http: POST, forged uidport-close"): {"told": None},
    },
    "An event without a handler is answered": {
        ("edn", "ws: unknown event id with cb: nobody answers"): {
            "5 packet": ['[:chsk/error "un"]'],
            "told": None,
        },
    },
    "A handler that raises is told": {
        ("edn", "ws: handler throws"): {"5 packet": ['[:chsk/error "th"]']},
    },
    "The first reply counts": {
        ("edn", "ws: handler replies twice"): {"5 packet": ['[1 "tw"]']},
    },
    LATE: {
        ("edn", "ws: handler pushes a :chsk event"): {
            "told": ["[:test/push-chsk 1] of probe at probe/1"]
        },
        ("edn", "ws: push-me 0"): {"told": ["[:test/push-me {:n 0}] of probe at probe/1"]},
    },
    "`send` refuses ids in `chsk`": {
        ("edn", "ws: push to a uid that is not connected"): {
            "5 event": None,
            "told": ['[:test/push-to {:data 1 :uid "nobody"}] of probe at probe/1'],
        },
    },
    "Sente 1.17 is understood": {
        ("edn", "ws: old package, plus"): {
            "5 packet": ['[1 "v1"]'],
            "told": ["[:test/req 1] of probe at probe/1, asks"],
        },
        ("edn-http", "http: POST, old package, plus"): {
            "57 answer": ["200"],
            "57 packet": ["[1 nil]"],
            "told": ["[:test/req 1] of h at h/1, asks"],
        },
        ("edn-http", "http: POST, old package, minus"): {
            "58 answer": ["400 expected Sente 1.17 or later, got a client of 1.16 or before"]
        },
    },
    "A byte order mark is passed over": {
        ("edn", "ws: BOM first"): {
            "5 packet": ['[1 "bo"]'],
            "told": ["[:test/req 1] of probe at probe/1, asks"],
        },
    },
    "RFC 6455 is kept": {
        ("edn", "ws: ping between fragments"): {
            "9 end": None,
            "9 packet": ['[[:chsk/handshake ["frame" nil nil]] nil]', '[1 "fr"]'],
            "9 pong": ["hi"],
            "told": ["[:test/req 1] of frame at frame/1, asks"],
        },
        ("edn", "ws: unmasked frame"): {"13 close": ["1002 expected a masked frame"]},
        ("edn", "ws: reserved opcode 3"): {"14 close": ["1002 expected a known opcode, got 3"]},
        ("edn", "ws: RSV1 set"): {
            "15 close": ["1002 expected no reserved bits, got 0x40"],
            "15 end": ["by the server"],
            "15 packet": ['[[:chsk/handshake ["frame" nil nil]] nil]'],
            "told": None,
        },
        ("edn", "ws: close with illegal code 1005"): {
            "19 close": ["1002 expected a close code that may be sent, got 1005"]
        },
        ("edn", "ws: upgrade with Sec-WebSocket-Version 8"): {
            "23 answer": ["426 expected Sec-WebSocket-Version 13, got '8'"],
            "23 packet": None,
            "told": None,
            "users": None,
        },
    },
    "Text must be UTF-8": {
        ("edn", "ws: invalid UTF-8 in a text frame"): {
            "12 close": ["1007 expected UTF-8 in a text message"],
            "12 end": ["by the server"],
            "12 packet": ['[[:chsk/handshake ["frame" nil nil]] nil]'],
            "told": None,
        },
    },
    "Nothing is taken after a close": {
        ("edn", "ws: server told to close: [:test/close-me]"): {
            "told": ["[:test/close-me nil] of frame at frame/1"]
        },
    },
    "Other methods": {
        ("edn-http", "http: HEAD"): {"14 answer": ["405"]},
        ("edn-http", "http: PUT"): {"76 answer": ["405 expected GET or POST"]},
    },
    "Host names are checked on a loopback address": {
        ("edn-http", "http: handshake GET, HTTP/1.0 with keep-alive absent"): {
            "15 answer": ["403 Unauthorized host"],
            "15 end": ["by the server"],
            "15 packet": None,
        },
    },
    "Pushes keep their order": {
        ("edn-http", "http: two batches without a poll between: two polls needed"): {
            "27 event": ["[:test/echo :one]", "[:test/echo :two]"],
            "28 answer": None,
            "28 event": None,
        },
    },
    "What cannot be read is a 400": {
        ("edn-http", "http: POST, undecodable"): {
            "38 answer": ["400 expected a packet `[value cb-id]`, got 'not edn )('"]
        },
        ("edn-http", "http: POST, unbalanced"): {
            "39 answer": [
                "400 expected a packet `[value cb-id]` in edn, got none: expected a closing ']', got the end: '[:test/req 1' at byte 1"
            ]
        },
        ("edn-http", "http: POST, keyword"): {
            "40 answer": ["400 expected a packet `[value cb-id]`, got ':foo'"]
        },
        ("edn-http", "http: POST, number"): {
            "41 answer": ["400 expected a packet `[value cb-id]`, got '42'"]
        },
        ("edn-http", "http: POST, map"): {
            "42 answer": ["400 expected a packet `[value cb-id]`, got '{:a 1}'"]
        },
        ("edn-http", "http: POST, unknown tag"): {
            "45 answer": [
                "400 expected a packet `[value cb-id]` in edn, got none: expected a tag that has a reader, got #foo/bar at byte 12"
            ]
        },
        (
            "edn-http",
            "http: POST with binary? to an EDN server, octet-stream body holding EDN text",
        ): {"67 answer": ["400 expected the form field ppstr"]},
        ("edn-http", "http: POST, ppstr twice"): {"75 answer": ["400 expected one ppstr, got 2"]},
    },
    "A percent sign that escapes nothing stands for itself": {
        ("edn-http", "http: POST, bad percent escape in ppstr"): {
            "told": ["[:test/req symbol:['%zz']] of h at h/1"]
        },
    },
    "Pipelined answers keep their order": {
        (
            "edn-http",
            "http: two requests pipelined on one connection: POST cb after 300 ms, then POST cb at once",
        ): {
            "77 answer": None,
            "77 packet": None,
            "told": ["[:test/reply-later {:ms 300}] of h at h/1, asks"],
        },
    },
    "Who left last": {
        (
            "lifetimes",
            "push into a 600 ms WS gap is delivered after the reconnect; into a 5 s gap it is lost",
        ): {
            "told": [
                '[:chsk/uidport-open "gap"] of gap at gap/1',
                "[:test/echo :short] of gap at gap/2",
                "[:test/echo :long] of gap at gap/2",
                '[:chsk/uidport-close "gap"] of gap at gap/2',
            ]
        },
    },
    "`reject` runs first": {
        ("reject-fn", "ws without client-id"): {"3 answer": ["503 try later"]},
    },
    "A silent client is closed 1011": {
        ("timeouts", "silent WebSocket client: server ping at 12.5 s, close at 22.5 s"): {
            "3 close": ["1011 ping timeout"],
            "3 end": ["by the server"],
        },
    },
    "Every byte is life": {
        (
            "timeouts",
            "a WebSocket client that answers protocol pings only (sends WS ping every 3 s) is still idle for Sente",
        ): {
            "7 close": None,
            "7 packet": ['[[:chsk/handshake ["wsping" nil nil]] nil]'],
            "told": ['[:chsk/uidport-open "wsping"] of wsping at wsping/1'],
        },
    },
    "A closed poll is answered 503": {
        ("timeouts", "[:chsk/close] on a parked poll"): {
            "13 answer": ["503 closed with 1000"],
            "13 bytes": None,
            "users": ["ws ['wsping'] ajax ['cl', 'par'] any ['cl', 'par', 'wsping']"],
        },
    },
    "A displaced poll gets its time-out": {
        ("timeouts", "waiting for the older of the two polls"): {
            "7 close": ["1011 ping timeout"],
            "7 end": ["by the server"],
            "7 packet": ["[:chsk/ws-ping nil]"],
            "9 answer": ["200"],
            "9 packet": ["[:chsk/timeout nil]"],
            "told": [
                '[:chsk/uidport-close "par"] of par at par/1',
                '[:chsk/uidport-close "cl"] of cl at cl/1',
                '[:chsk/uidport-close "wsping"] of wsping at wsping/1',
            ],
            "users": [
                "ws ['wsping'] ajax ['cl'] any ['cl', 'wsping']",
                "ws ['wsping'] ajax [] any ['wsping']",
                "ws [] ajax [] any []",
            ],
        },
    },
    "A dropped poll is seen at once": {
        (
            "timeouts",
            "client drops a parked poll (FIN): when does the server notice, and what of a push in between",
        ): {"18 answer": ["200"], "18 event": ["[:test/echo :lost?]"]},
        ("timeouts", "...and without any push: dropped poll, then only time"): {
            "told at": ["88.0 s", "91.3 s", "93.5 s"],
            "users at": ["88.1 s", "91.4 s", "93.6 s"],
        },
    },
}
