/* The load generator of the benches: many WebSocket clients on one epoll loop.
 *
 * It knows frames, and nothing of what they say: upgrade request, greeting, request and
 * expected answer are handed to it as bytes, so that every server is driven by the same
 * code. Every byte that comes back is compared; a wrong one ends the run.
 *
 * load PORT CLIENTS IN_FLIGHT MODE PID GREETINGS HEAD HELLO REQUEST ANSWER   (the last four: files)
 *   HEAD       the upgrade request with the key of KEY; "{n}" in it becomes the client's number
 *   GREETINGS  frames that the server sends before the run; HELLO goes out after the first
 *   REQUEST    one masked frame, ANSWER the bytes that it brings back
 *              A zero byte of ANSWER stands for any byte.
 * MODE is one of
 *   echo       each client keeps IN_FLIGHT requests under way, and gets an answer to each
 *   resume     the same as clients of chansock that resume: short frames that are no ANSWER are
 *              acknowledgments, and are answered with the numbers of requests and answers
 *   fan        one client after another sends a REQUEST, and every client gets the ANSWER: no
 *              client sends so many that chansock acknowledges them (at 256) in the middle
 *   connect    CLIENTS connections at a time are opened and greeted; all are closed behind the clock
 *   visit      CLIENTS connections at a time are opened, greeted and closed from both sides
 *   pace:RATE  the clients send RATE requests a second in all, in turn, whether or not earlier
 *              ones are answered (at most IN_FLIGHT of a client); latency counts from the time at
 *              which a request was due. Frames of up to 125 bytes that are no ANSWER are pushes,
 *              and are skipped
 *
 * Prints "ready", then for each line N on stdin runs N requests and prints
 *   answers wall_seconds server_cpu_seconds own_cpu_seconds p50 p99 p99.9
 * The clock stops when the last client has read the last byte. The CPU clock is that of the
 * process PID; the last three are seconds from a request to its answer. PID may be several with
 * commas between: the CPU seconds of all but the first follow at the end of the line.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" /* to dGhlIHNhbXBsZSBub25jZQ==, RFC 6455 */

typedef struct {
    unsigned char *data;
    size_t size;
} Bytes;

typedef struct {
    int fd;
    size_t at;       /* how far into ANSWER this client has read */
    size_t skipping; /* bytes of a push that are still to come */
    long asked;      /* requests so far */
    long left;       /* answers that it still waits for */
    uint64_t *since; /* when each of them was asked for, a ring from `first` on */
    long first;
    size_t unsent;   /* bytes of requests that the kernel has not taken */
    size_t sent_at;  /* how far into REQUEST it has taken them */
    int is_behind;   /* it is watched for room */
} Client;

typedef struct {
    int fd, greeted, is_closing;
    uint64_t since;
    size_t size;
    unsigned char data[4096];
} Visit; /* a connection of mode connect */

static int port, clients_count, in_flight, epoll_fd, greetings;
static long rate; /* of mode pace; 0: another mode */
static int resumes, has_pushes; /* mode resume; short frames that are no ANSWER may come */
static Client *clients;
static Bytes head, hello, request, answer, burst; /* burst: in_flight times the request */
static unsigned char buffer[1 << 18];
static long visits; /* so far; the next client's number */

static void die(const char *what) {
    fprintf(stderr, "load: %s (%s)\n", what, errno ? strerror(errno) : "no system error");
    exit(1);
}

static Bytes read_file(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END)) die(path);
    size_t size = (size_t)ftell(file);
    Bytes bytes = {malloc(size + 1), size};
    rewind(file);
    if (fread(bytes.data, 1, size, file) != size) die(path);
    bytes.data[size] = 0;
    fclose(file);
    return bytes;
}

static uint64_t clock_ns(clockid_t clock) {
    struct timespec t;
    if (clock_gettime(clock, &t)) die("clock_gettime");
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static uint64_t now(void) { return clock_ns(CLOCK_MONOTONIC); }

/* Latencies: each power of two in 64 steps, so a quantile is right to 1.6 %. */
static long latencies[4096], latencies_count;

static void note_latency(uint64_t ns) {
    int shift = ns < 64 ? 0 : 57 - __builtin_clzll(ns);
    latencies[((size_t)shift << 6) + (ns >> shift)]++;
    latencies_count++;
}

static double quantile(double part) {
    long rank = (long)((double)latencies_count * part), seen = 0;
    for (size_t i = 0; i < 4096; i++) {
        seen += latencies[i];
        if (seen > rank) {
            int shift = i < 128 ? 0 : (int)(i >> 6) - 1;
            uint64_t low = (uint64_t)(i - ((size_t)shift << 6)) << shift;
            return 1e-9 * (double)(low + ((uint64_t)1 << shift) / 2);
        }
    }
    return 0;
}

static void watch(int fd, uint32_t events, uint32_t index, int what) {
    struct epoll_event event = {.events = events, .data.u32 = index};
    if (epoll_ctl(epoll_fd, what, fd, &event)) die("epoll_ctl");
}

static int wait_for_events(struct epoll_event *events) {
    int ready;
    do ready = epoll_wait(epoll_fd, events, 256, 20000);
    while (ready < 0 && errno == EINTR);
    if (ready <= 0) die("no answer within 20 s");
    return ready;
}

static void write_all(int fd, const void *data, size_t size) {
    if (send(fd, data, size, MSG_NOSIGNAL) != (ssize_t)size) die("expected a whole send");
}

/* Connect as client number n and send the upgrade request. */
static int dial(long n) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    char line[8192];
    const char *start = (char *)head.data, *mark = strstr(start, "{n}");
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);

    /* Closed connections keep their port for a minute: many addresses have enough of them. */
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + (in_addr_t)(n % 200));
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address)) die("bind");
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons((uint16_t)port);
    if (connect(fd, (struct sockaddr *)&address, sizeof address)) die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    int size = mark ? snprintf(line, sizeof line, "%.*s%ld%s", (int)(mark - start), start, n, mark + 3)
                    : snprintf(line, sizeof line, "%s", start);
    write_all(fd, line, (size_t)size);
    return fd;
}

static size_t frame_size(const unsigned char *at, size_t left) { /* 0: not whole */
    if (left < 2) return 0;
    size_t more = at[1] == 126 ? 2 : at[1] == 127 ? 8 : 0, size = more ? 0 : at[1];
    if (left < 2 + more) return 0;
    for (size_t i = 0; i < more; i++) size = size << 8 | at[2 + i];
    return 2 + more + size <= left ? 2 + more + size : 0;
}

/* Take what the server says first; 1 when it was all. */
static int take_greetings(Visit *v) {
    ssize_t got = recv(v->fd, v->data + v->size, sizeof v->data - v->size, 0);
    if (got <= 0) die("the server closed during the handshake");
    v->size += (size_t)got;
    unsigned char *end = memmem(v->data, v->size, "\r\n\r\n", 4);
    if (!end) return 0;
    if (!v->greeted) {
        if (!memmem(v->data, v->size, " 101 ", 5) || !memmem(v->data, v->size, ACCEPT, 28)) {
            fprintf(stderr, "%.*s\n", (int)v->size, v->data);
            die("expected 101 and the right Sec-WebSocket-Accept");
        }
    }
    size_t at = (size_t)(end - v->data) + 4, size;
    int greeted = 0;
    while (greeted < greetings && (size = frame_size(v->data + at, v->size - at))) {
        at += size;
        if (++greeted == 1 && !v->greeted && hello.size) write_all(v->fd, hello.data, hello.size);
    }
    v->greeted = greeted;
    if (greeted == greetings && at != v->size) die("more came than greetings");
    return greeted == greetings;
}

static void open_client(int index) {
    Visit visit = {.fd = dial(index), .since = now()};
    while (!take_greetings(&visit)) continue;
    fcntl(visit.fd, F_SETFL, O_NONBLOCK);
    watch(visit.fd, EPOLLIN, (uint32_t)index, EPOLL_CTL_ADD);
    clients[index] = (Client){.fd = visit.fd, .since = calloc((size_t)in_flight, 8)};
}

static void expect_answers(Client *client, long count, uint64_t since) {
    for (long i = 0; i < count; i++)
        client->since[(client->first + client->left + i) % in_flight] = since;
    client->left += count;
    client->asked += count;
}

static void flush(Client *client) {
    while (client->unsent) {
        size_t size = burst.size - client->sent_at;
        if (size > client->unsent) size = client->unsent;
        ssize_t sent = send(client->fd, burst.data + client->sent_at, size, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) die("send");
        if (sent < 0) break;
        client->unsent -= (size_t)sent;
        client->sent_at = (client->sent_at + (size_t)sent) % request.size;
    }
    if (client->is_behind == (client->unsent > 0)) return;
    client->is_behind = client->unsent > 0;
    watch(client->fd, client->is_behind ? EPOLLIN | EPOLLOUT : EPOLLIN,
          (uint32_t)(client - clients), EPOLL_CTL_MOD);
}

static void ask(Client *client, long count) {
    expect_answers(client, count, now());
    client->unsent += (size_t)count * request.size;
    flush(client);
}

static int is_answer(const unsigned char *have, const unsigned char *want, size_t size) {
    if (!memcmp(have, want, size)) return 1;
    for (size_t i = 0; i < size; i++)
        if (want[i] && have[i] != want[i]) return 0;
    return 1;
}

/* Say how many requests were sent, and which one waits longest: `[[:chsk/ws-pong [s w]] nil]`. */
static void answer_acknowledgment(Client *client) {
    char frame[100], *payload = frame + 6; /* masked by four zeros */
    if (client->unsent) return;            /* it must not overtake a request */
    int size = snprintf(payload, sizeof frame - 6, "[[:chsk/ws-pong [%ld %ld]] nil]", client->asked,
                        client->asked - client->left + 1);
    memcpy(frame, (char[]){(char)0x81, (char)(0x80 | size), 0, 0, 0, 0}, 6);
    write_all(client->fd, frame, (size_t)size + 6);
}

/* Read what there is; give the number of answers that it completed. */
static long take_answers(Client *client) {
    long complete = 0;
    ssize_t got = recv(client->fd, buffer, sizeof buffer, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    if (got <= 0) die("the server closed");
    uint64_t arrived = now();
    for (size_t at = 0; at < (size_t)got;) {
        if (client->skipping) {
            size_t size = client->skipping < (size_t)got - at ? client->skipping : (size_t)got - at;
            client->skipping -= size;
            at += size;
            if (resumes && !client->skipping) answer_acknowledgment(client);
            continue;
        }
        if (has_pushes && client->at < 2 && buffer[at] != answer.data[client->at]) {
            if (client->at == 0 || buffer[at] > 125) {
                fprintf(stderr, "got %.*s\n", 60, (char *)buffer + at);
                die("expected an answer or a short push");
            }
            client->skipping = buffer[at++];
            client->at = 0;
            continue;
        }
        /* The second byte, the length, tells an answer from a push. */
        size_t size = has_pushes && client->at < 2 ? 1 : answer.size - client->at;
        if (size > (size_t)got - at) size = (size_t)got - at;
        if (!is_answer(buffer + at, answer.data + client->at, size)) {
            const unsigned char *want = answer.data + client->at, *have = buffer + at;
            while (*want == *have) want++, have++, size--;
            int shown = size < 80 ? (int)size : 80;
            fprintf(stderr, "expected %.*s at byte %zd of the answer, got %.*s\n", shown, want,
                    want - answer.data, shown, have);
            errno = 0;
            die("wrong answer");
        }
        at += size;
        client->at += size;
        if (client->at == answer.size) {
            client->at = 0;
            complete++;
            if (--client->left < 0) die("more answers than requests");
            note_latency(arrived - client->since[client->first]);
            client->first = (client->first + 1) % in_flight;
        }
    }
    return complete;
}

/* Wait until `waiting` answers are there, and meanwhile send `to_send` requests more. */
static long wait_for_all(long waiting, long to_send) {
    struct epoll_event events[256];
    long done = 0;
    while (done < waiting) {
        int ready = wait_for_events(events);
        for (int i = 0; i < ready; i++) {
            Client *client = &clients[events[i].data.u32];
            if (events[i].events & EPOLLOUT) flush(client);
            if (!(events[i].events & ~(uint32_t)EPOLLOUT)) continue;
            long complete = take_answers(client);
            done += complete;
            if (complete > to_send) complete = to_send;
            if (complete) {
                to_send -= complete;
                ask(client, complete);
            }
        }
    }
    return done;
}

static long run_echo(long requests) {
    long first = requests < (long)clients_count * in_flight ? 1 : in_flight;
    if (requests < clients_count) die("fewer requests than clients");
    for (int i = 0; i < clients_count; i++) ask(&clients[i], first);
    return wait_for_all(requests, requests - clients_count * first);
}

static long run_pace(long requests) {
    struct epoll_event events[256];
    long sent = 0, done = 0;
    double step = 1e9 / (double)rate;
    uint64_t start = now();
    while (done < requests) {
        uint64_t elapsed = now() - start;
        for (int burst = 0; burst < 64 && sent < requests; burst++) {
            uint64_t due = (uint64_t)((double)sent * step);
            if (due > elapsed) break;
            Client *client = &clients[sent++ % clients_count];
            if (client->left == in_flight) die("the server is slower than the pace");
            expect_answers(client, 1, start + due);
            client->unsent += request.size;
            flush(client);
        }
        int ready = epoll_wait(epoll_fd, events, 256, 0);
        for (int i = 0; i < ready; i++) {
            Client *client = &clients[events[i].data.u32];
            if (events[i].events & EPOLLOUT) flush(client);
            if (events[i].events & ~(uint32_t)EPOLLOUT) done += take_answers(client);
        }
    }
    return done;
}

static long run_fan(long requests) {
    static int asking; /* goes on from run to run */
    long done = 0;
    while (requests--) {
        uint64_t start = now();
        for (int i = 0; i < clients_count; i++) expect_answers(&clients[i], 1, start);
        write_all(clients[asking++ % clients_count].fd, request.data, request.size);
        done += wait_for_all(clients_count, 0);
    }
    return done;
}

static void start_visit(Visit *visit, uint32_t index) {
    visit->since = now();
    visit->fd = dial(visits++);
    visit->greeted = visit->is_closing = 0;
    visit->size = 0;
    watch(visit->fd, EPOLLIN, index, EPOLL_CTL_ADD);
}

static Visit *opened; /* by mode connect, to be closed behind the clock */
static long opened_count;

static long run_connect(long requests) {
    struct epoll_event events[256];
    long started = 0, done = 0;
    opened = calloc((size_t)requests, sizeof *opened);
    opened_count = requests;
    while (done < requests) {
        for (; started < requests && started < done + clients_count; started++)
            start_visit(&opened[started], (uint32_t)started);
        int ready = wait_for_events(events);
        for (int i = 0; i < ready; i++) {
            Visit *visit = &opened[events[i].data.u32];
            if (!take_greetings(visit)) continue;
            note_latency(now() - visit->since);
            watch(visit->fd, 0, 0, EPOLL_CTL_DEL);
            done++;
        }
    }
    return done;
}

#define MOST_PROCESSES 64
static clockid_t clocks[MOST_PROCESSES]; /* of the processes whose CPU is counted */
static int clocks_count;

static void find_clocks(char *pids) {
    for (char *pid = strtok(pids, ","); pid; pid = strtok(NULL, ",")) {
        if (clocks_count == MOST_PROCESSES) die("too many processes");
        if (clock_getcpuclockid(atoi(pid), &clocks[clocks_count++])) die("no such process");
    }
    if (!clocks_count) die("expected a process");
}

static void read_clocks(uint64_t *into) {
    for (int i = 0; i < clocks_count; i++) into[i] = clock_ns(clocks[i]);
}

static void close_opened(void) {
    for (long i = 0; i < opened_count; i++) shutdown(opened[i].fd, SHUT_WR);
    for (long i = 0; i < opened_count; i++) {
        while (recv(opened[i].fd, buffer, sizeof buffer, 0) > 0) continue;
        close(opened[i].fd);
    }
    free(opened);
    opened = NULL;
    opened_count = 0;
}

static long run_visit(long requests) {
    struct epoll_event events[256];
    Visit *all = calloc((size_t)clients_count, sizeof *all);
    long started = 0, done = 0;
    while (started < clients_count && started < requests) {
        start_visit(&all[started], (uint32_t)started);
        started++;
    }
    while (done < requests) {
        int ready = wait_for_events(events);
        for (int i = 0; i < ready; i++) {
            Visit *visit = &all[events[i].data.u32];
            if (!visit->is_closing) {
                if (!take_greetings(visit)) continue;
                note_latency(now() - visit->since);
                visit->is_closing = 1;
                shutdown(visit->fd, SHUT_WR);
            } else if (recv(visit->fd, buffer, sizeof buffer, 0) <= 0) {
                close(visit->fd);
                done++;
                if (started++ < requests) start_visit(visit, events[i].data.u32);
            }
        }
    }
    free(all);
    return done;
}

int main(int argc, char **argv) {
    if (argc != 11) die("expected 10 arguments");
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);

    port = atoi(argv[1]);
    clients_count = atoi(argv[2]);
    in_flight = atoi(argv[3]);
    find_clocks(argv[5]);
    greetings = atoi(argv[6]);
    head = read_file(argv[7]);
    hello = read_file(argv[8]);
    request = read_file(argv[9]);
    answer = read_file(argv[10]);
    burst = (Bytes){malloc(request.size * (size_t)in_flight), request.size * (size_t)in_flight};
    for (int i = 0; i < in_flight; i++)
        memcpy(burst.data + (size_t)i * request.size, request.data, request.size);

    if (!strncmp(argv[4], "pace:", 5)) rate = atol(argv[4] + 5);
    resumes = !strcmp(argv[4], "resume");
    has_pushes = rate || resumes;
    long (*run)(long) = rate                        ? run_pace
                        : resumes || !strcmp(argv[4], "echo") ? run_echo
                        : !strcmp(argv[4], "fan")   ? run_fan
                        : !strcmp(argv[4], "visit") ? run_visit
                                                    : run_connect;
    clients = calloc((size_t)clients_count, sizeof *clients);
    epoll_fd = epoll_create1(0);
    int has_clients = run != run_connect && run != run_visit;
    for (int i = 0; has_clients && i < clients_count; i++) open_client(i);
    puts("ready");
    fflush(stdout);

    char line[64];
    uint64_t before[MOST_PROCESSES], after[MOST_PROCESSES];
    while (fgets(line, sizeof line, stdin)) {
        memset(latencies, 0, sizeof latencies);
        latencies_count = 0;
        read_clocks(before);
        uint64_t own_start = clock_ns(CLOCK_PROCESS_CPUTIME_ID), start = now();
        long done = run(atol(line));
        uint64_t wall = now() - start, own = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - own_start;
        usleep(2000); /* until the server sleeps, its CPU clock lags by up to a tick */
        read_clocks(after);
        close_opened();
        printf("%ld %.9f %.9f %.9f %.9f %.9f %.9f", done, 1e-9 * (double)wall,
               1e-9 * (double)(after[0] - before[0]), 1e-9 * (double)own, quantile(0.5),
               quantile(0.99), quantile(0.999));
        for (int i = 1; i < clocks_count; i++) printf(" %.9f", 1e-9 * (double)(after[i] - before[i]));
        putchar('\n');
        fflush(stdout);
    }
    return 0;
}
