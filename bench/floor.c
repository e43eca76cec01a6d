/* The floor of the benches: an echo of WebSocket messages in plain C on one epoll loop.
 *
 * It does what every server has to do and nothing else: takes the handshake with its SHA-1,
 * finds the frames of a read, unmasks them, and sends all answers of one read in one send.
 * A message is answered when it stands whole. The text "fan N TEXT" brings N messages TEXT to
 * every open connection, in one send for each. No limits, no UTF-8, no fragments, no ping: a
 * frame that is no single text or binary message closes the connection.
 *
 * Takes a free port of 127.0.0.1, prints it, and serves until the process is ended.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <malloc.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    SHARED = 1 << 18, /* bytes of the read buffer that all connections use */
    LARGE = 1 << 16,  /* a frame above this that is not whole gets a buffer of its own */
};

typedef struct Connection {
    struct Connection *next, **link; /* of `all`; link: what points here */
    int fd;
    int is_open;            /* the handshake is done */
    unsigned char *kept;    /* owned: the start of what was not whole; a large frame's own buffer */
    size_t kept_size, want; /* want: the size of that large frame, else 0 */
    unsigned char *unsent;  /* owned: what the kernel did not take */
    size_t unsent_at, unsent_size;
} Connection;

static int epoll_fd;
static Connection *all;
static unsigned char input[SHARED + LARGE], output[SHARED + LARGE], fanned[SHARED];

static void die(const char *what) {
    perror(what);
    exit(1);
}

/* SHA-1, RFC 3174, of at most 119 bytes: a key and the GUID are 60. */
static void sha1(const char *text, unsigned char digest[20]) {
    uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0}, w[80];
    unsigned char block[128] = {0};
    size_t size = strlen(text), blocks = (size + 8) / 64 + 1;
    memcpy(block, text, size);
    block[size] = 0x80;
    block[blocks * 64 - 2] = (unsigned char)(size * 8 >> 8);
    block[blocks * 64 - 1] = (unsigned char)(size * 8);
    for (size_t b = 0; b < blocks; b++) {
        for (int i = 0; i < 16; i++) {
            memcpy(&w[i], block + b * 64 + i * 4, 4);
            w[i] = ntohl(w[i]);
        }
        for (int i = 16; i < 80; i++) {
            uint32_t x = w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16];
            w[i] = x << 1 | x >> 31;
        }
        uint32_t v[5] = {h[0], h[1], h[2], h[3], h[4]};
        for (int i = 0; i < 80; i++) {
            uint32_t f = i < 20   ? ((v[1] & v[2]) | (~v[1] & v[3])) + 0x5a827999
                         : i < 40 ? (v[1] ^ v[2] ^ v[3]) + 0x6ed9eba1
                         : i < 60 ? ((v[1] & v[2]) | (v[1] & v[3]) | (v[2] & v[3])) + 0x8f1bbcdc
                                  : (v[1] ^ v[2] ^ v[3]) + 0xca62c1d6;
            uint32_t t = (v[0] << 5 | v[0] >> 27) + f + v[4] + w[i];
            v[4] = v[3], v[3] = v[2], v[2] = v[1] << 30 | v[1] >> 2, v[1] = v[0], v[0] = t;
        }
        for (int i = 0; i < 5; i++) h[i] += v[i];
    }
    for (int i = 0; i < 5; i++) h[i] = htonl(h[i]);
    memcpy(digest, h, 20);
}

static void base64(const unsigned char *data, size_t size, char *to) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < size; i += 3) {
        uint32_t x = (uint32_t)data[i] << 16 | (i + 1 < size ? data[i + 1] << 8 : 0) |
                     (i + 2 < size ? data[i + 2] : 0);
        *to++ = digits[x >> 18];
        *to++ = digits[x >> 12 & 63];
        *to++ = i + 1 < size ? digits[x >> 6 & 63] : '=';
        *to++ = i + 2 < size ? digits[x & 63] : '=';
    }
    *to = 0;
}

/* Forget the connection; gives 0, so that a caller can return it. */
static int close_connection(Connection *c) {
    close(c->fd);
    *c->link = c->next;
    if (c->next) c->next->link = c->link;
    free(c->kept);
    free(c->unsent);
    free(c);
    return 0;
}

static void watch(Connection *c, uint32_t events, int what) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(epoll_fd, what, c->fd, &event)) die("epoll_ctl");
}

/* Send what the kernel takes; -1 if the peer is gone. */
static ssize_t send_some(Connection *c, const unsigned char *data, size_t size) {
    ssize_t sent = send(c->fd, data, size, MSG_NOSIGNAL);
    return sent < 0 && errno == EAGAIN ? 0 : sent;
}

/* Own data[at:size] of a malloc until the kernel takes it; nothing is read meanwhile. */
static int send_later(Connection *c, unsigned char *data, size_t at, size_t size) {
    c->unsent = data;
    c->unsent_at = at;
    c->unsent_size = size;
    watch(c, EPOLLOUT, EPOLL_CTL_MOD);
    return 1;
}

static int put(Connection *c, const unsigned char *data, size_t size) {
    ssize_t sent = send_some(c, data, size);
    if (sent < 0 || (size_t)sent == size) return sent >= 0;
    size -= (size_t)sent;
    return send_later(c, memcpy(malloc(size), data + sent, size), 0, size);
}

static void put_rest(Connection *c) {
    ssize_t sent = send_some(c, c->unsent + c->unsent_at, c->unsent_size - c->unsent_at);
    if (sent < 0) {
        close_connection(c);
        return;
    }
    c->unsent_at += (size_t)sent;
    if (c->unsent_at < c->unsent_size) return;
    free(c->unsent);
    c->unsent = NULL;
    watch(c, EPOLLIN, EPOLL_CTL_MOD);
}

static void unmask(unsigned char *to, const unsigned char *from, size_t size, uint32_t key) {
    uint64_t word, wide = (uint64_t)key << 32 | key;
    size_t at = 0;
    for (; at + 8 <= size; at += 8) {
        memcpy(&word, from + at, 8);
        word ^= wide;
        memcpy(to + at, &word, 8);
    }
    for (; at < size; at++) to[at] = from[at] ^ (unsigned char)(key >> 8 * (at & 3));
}

typedef struct {
    size_t header, size; /* size: of the payload; header 0: not whole */
    uint32_t key;
} Frame;

static int read_frame(const unsigned char *at, size_t left, Frame *frame) {
    frame->header = 0;
    if (left < 2) return 1;
    if ((at[0] != 0x81 && at[0] != 0x82) || !(at[1] & 0x80)) return 0;
    size_t more = (at[1] & 127) == 126 ? 2 : (at[1] & 127) == 127 ? 8 : 0;
    if (left < 6 + more) return 1;
    frame->size = more ? 0 : at[1] & 127;
    for (size_t i = 0; i < more; i++) frame->size = frame->size << 8 | at[2 + i];
    memcpy(&frame->key, at + 2 + more, 4);
    frame->header = 6 + more;
    return 1;
}

static size_t write_header(unsigned char *to, unsigned char opcode, size_t size) {
    to[0] = opcode;
    if (size < 126) {
        to[1] = (unsigned char)size;
        return 2;
    }
    size_t more = size < 65536 ? 2 : 8;
    to[1] = more == 2 ? 126 : 127;
    for (size_t i = 0; i < more; i++) to[1 + more - i] = (unsigned char)(size >> 8 * i);
    return 2 + more;
}

static int keep(Connection *c, const unsigned char *at, size_t left, const Frame *frame) {
    if (!left) return 1;
    size_t whole = frame->header + frame->size;
    c->want = frame->header && whole > LARGE ? whole : 0;
    c->kept = malloc(c->want ? c->want : left);
    memcpy(c->kept, at, left);
    c->kept_size = left;
    return 1;
}

/* Send what "fan N TEXT" asks for; who is gone is noticed when it is read. */
static void fan(const unsigned char *payload, size_t size) {
    char *text;
    long count = strtol((const char *)payload + 4, &text, 10);
    size_t left = size - (size_t)(++text - (const char *)payload), whole = 0;
    if ((size_t)count * (left + 4) > sizeof fanned) die("fan");
    while (count--) {
        whole += write_header(fanned + whole, 0x81, left);
        memcpy(fanned + whole, text, left);
        whole += left;
    }
    for (Connection *c = all; c; c = c->next)
        if (c->is_open && !c->unsent) put(c, fanned, whole);
}

/* Answer the whole frames of a read, keep the rest; 0 if the peer is gone or at fault. */
static int take(Connection *c, const unsigned char *at, size_t left) {
    unsigned char *to = output;
    Frame frame = {0};
    while (left) {
        if (!read_frame(at, left, &frame)) return 0;
        if (!frame.header || frame.header + frame.size > left) break;
        to += write_header(to, at[0], frame.size);
        unmask(to, at + frame.header, frame.size, frame.key);
        if (at[0] == 0x81 && frame.size > 6 && !memcmp(to, "fan ", 4)) {
            fan(to, frame.size);
            to = output; /* it comes alone */
        } else {
            to += frame.size;
        }
        at += frame.header + frame.size;
        left -= frame.header + frame.size;
    }
    return keep(c, at, left, &frame) && (to == output || put(c, output, (size_t)(to - output)));
}

/* The same for a frame in a buffer of its own: unmasked and answered where it lies. */
static int take_large(Connection *c) {
    unsigned char header[16], *own = c->kept, *at = own;
    Frame frame = {0};
    if (!read_frame(at, c->want, &frame)) return 0;
    unsigned char *payload = at + frame.header; /* the answer's header is the shorter one */
    size_t size = write_header(header, at[0], frame.size), end = frame.header + frame.size;
    unmask(payload, payload, frame.size, frame.key);
    memcpy(payload - size, header, size);
    ssize_t sent = send_some(c, payload - size, size + frame.size);
    if (sent < 0) return 0;
    c->kept = NULL;
    c->kept_size = c->want = 0;
    size_t start = frame.header - size + (size_t)sent;
    if (start < end) return send_later(c, own, start, end);
    free(own);
    return 1;
}

static int handshake(Connection *c, char *head, size_t size) {
    static const char name[] = "\r\nSec-WebSocket-Key:", end[] = "\r\n\r\n";
    char text[64], answer[256];
    unsigned char digest[20];
    head[size] = 0;
    if (!strstr(head, end)) return keep(c, (unsigned char *)head, size, &(Frame){0});
    char *key = strcasestr(head, name);
    if (!key) return 0;
    key += sizeof name - 1;
    while (*key == ' ') key++;
    snprintf(text, sizeof text, "%.24s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
    sha1(text, digest);
    base64(digest, 20, text);
    int length = snprintf(answer, sizeof answer,
                          "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                          "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
                          text);
    c->is_open = 1;
    return put(c, (unsigned char *)answer, (size_t)length);
}

static void read_some(Connection *c) {
    ssize_t got;
    int is_alive;
    if (c->want) {
        got = recv(c->fd, c->kept + c->kept_size, c->want - c->kept_size, 0);
        if (got > 0) c->kept_size += (size_t)got;
        is_alive = got > 0 && (c->kept_size < c->want || take_large(c));
    } else {
        size_t kept = c->kept_size;
        if (kept) memcpy(input, c->kept, kept);
        free(c->kept);
        c->kept = NULL;
        c->kept_size = 0;
        got = recv(c->fd, input + kept, SHARED - 1, 0);
        size_t size = kept + (size_t)(got > 0 ? got : 0);
        is_alive = got > 0 && (c->is_open ? take(c, input, size) : handshake(c, (char *)input, size));
    }
    if (!is_alive) close_connection(c);
}

static void accept_all(int listener) {
    int fd, one = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        Connection *c = calloc(1, sizeof *c);
        c->fd = fd;
        c->next = all;
        c->link = &all;
        if (all) all->link = &c->next;
        all = c;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        watch(c, EPOLLIN, EPOLL_CTL_ADD);
    }
}

int main(void) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct epoll_event events[256];
    struct rlimit files;
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

    mallopt(M_MMAP_THRESHOLD, 1 << 30); /* a large frame's memory is kept for the next */
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1024))
        die("listen");
    getsockname(listener, (struct sockaddr *)&address, &size);
    epoll_fd = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event)) die("epoll_ctl");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        int ready = epoll_wait(epoll_fd, events, 256, -1);
        for (int i = 0; i < ready; i++) {
            Connection *c = events[i].data.ptr;
            if (!c)
                accept_all(listener);
            else if (c->unsent)
                put_rest(c);
            else
                read_some(c);
        }
    }
}
