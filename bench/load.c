/* The load generator of the benches: many WebSocket clients on one epoll loop.
 *
 * It knows frames, and nothing of what they say: upgrade request, greeting, request and
 * expected answer are handed to it as bytes, so that every server is driven by the same
 * code. Every byte that comes back is compared; a wrong one ends the run.
 *
 * load PORT CLIENTS IN_FLIGHT echo|fan PID GREETINGS HEAD HELLO REQUEST ANSWER   (hex)
 *   HEAD       the upgrade request; "{n}" in it becomes the number of the client
 *   GREETINGS  frames that the server sends before the run; HELLO goes out after the first
 *   REQUEST    one masked frame, ANSWER the bytes that it brings back
 *   echo       each client keeps IN_FLIGHT requests under way, and gets an answer to each
 *   fan        the first client sends one REQUEST, and every client gets the ANSWER
 *
 * Prints "ready", then for each line N on stdin runs N requests and prints
 * "answers wall_seconds server_cpu_seconds": the clock stops when the last client has
 * read the last byte. The CPU clock is that of the process PID.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

typedef struct {
    unsigned char *data;
    size_t size;
} Bytes;

typedef struct {
    int fd;
    size_t at; /* how far into ANSWER this client has read */
    long left; /* answers that it still waits for */
} Client;

static int clients_count, in_flight, epoll_fd;
static Client *clients;
static Bytes request, answer, burst; /* burst: in_flight times the request */
static unsigned char buffer[1 << 18];

static void die(const char *what) {
    fprintf(stderr, "load: %s (%s)\n", what, errno ? strerror(errno) : "no system error");
    exit(1);
}

static Bytes unhex(const char *text) {
    Bytes bytes = {malloc(strlen(text) / 2 + 1), strlen(text) / 2};
    for (size_t i = 0; i < bytes.size; i++) {
        unsigned int value;
        if (sscanf(text + 2 * i, "%2x", &value) != 1) die("expected hex");
        bytes.data[i] = (unsigned char)value;
    }
    bytes.data[bytes.size] = 0;
    return bytes;
}

static double now(clockid_t clock) {
    struct timespec t;
    if (clock_gettime(clock, &t)) die("clock_gettime");
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void write_all(int fd, const void *data, size_t size) {
    if (send(fd, data, size, MSG_NOSIGNAL) != (ssize_t)size) die("expected a whole send");
}

static void read_exactly(int fd, unsigned char *to, size_t size) {
    while (size) {
        ssize_t got = recv(fd, to, size, 0);
        if (got <= 0) die("the server closed during the handshake");
        to += got;
        size -= (size_t)got;
    }
}

static void skip_frame(int fd) {
    unsigned char head[8];
    read_exactly(fd, head, 2);
    size_t size = head[1] & 127;
    int more = size == 126 ? 2 : size == 127 ? 8 : 0;
    if (more) {
        read_exactly(fd, head, (size_t)more);
        size = 0;
        for (int i = 0; i < more; i++) size = size << 8 | head[i];
    }
    if (size > sizeof buffer) die("greeting too long");
    read_exactly(fd, buffer, size);
}

static void read_head(int fd) {
    size_t size = 0;
    while (size < 4 || memcmp(buffer + size - 4, "\r\n\r\n", 4)) {
        if (size == 8192) die("answer to the upgrade too long");
        read_exactly(fd, buffer + size++, 1);
    }
    buffer[size] = 0;
    if (!strstr((char *)buffer, " 101 ")) {
        fprintf(stderr, "%s", buffer);
        die("expected 101");
    }
}

static void open_client(int index, int port, const char *head, int greetings, Bytes hello) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    char line[4096];
    const char *mark = strstr(head, "{n}");
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address)) die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (mark)
        snprintf(line, sizeof line, "%.*s%d%s", (int)(mark - head), head, index, mark + 3);
    else
        snprintf(line, sizeof line, "%s", head);
    write_all(fd, line, strlen(line));
    read_head(fd);
    for (int i = 0; i < greetings; i++) {
        skip_frame(fd);
        if (i == 0 && hello.size) write_all(fd, hello.data, hello.size);
    }
    fcntl(fd, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = (unsigned)index};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl");
    clients[index] = (Client){.fd = fd};
}

/* Read what there is; give the number of answers that it completed. */
static long take_answers(Client *client) {
    long complete = 0;
    ssize_t got = recv(client->fd, buffer, sizeof buffer, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    if (got <= 0) die("the server closed");
    for (size_t at = 0; at < (size_t)got;) {
        size_t size = answer.size - client->at;
        if (size > (size_t)got - at) size = (size_t)got - at;
        if (memcmp(buffer + at, answer.data + client->at, size)) {
            fprintf(stderr, "expected %.*s, got %.*s\n", (int)answer.size, answer.data, (int)got, buffer);
            errno = 0;
            die("wrong answer");
        }
        at += size;
        client->at += size;
        if (client->at == answer.size) {
            client->at = 0;
            complete++;
        }
    }
    client->left -= complete;
    if (client->left < 0) die("more answers than requests");
    return complete;
}

static long wait_for_all(long waiting, int resend) {
    struct epoll_event events[256];
    long to_send = 0, done = 0;
    for (int i = 0; resend && i < clients_count; i++) to_send += clients[i].left;
    to_send = resend ? waiting - to_send : 0;
    while (done < waiting) {
        int ready = epoll_wait(epoll_fd, events, 256, 20000);
        if (ready < 0 && errno == EINTR) continue;
        if (ready <= 0) die("no answer within 20 s");
        for (int i = 0; i < ready; i++) {
            Client *client = &clients[events[i].data.u32];
            long complete = take_answers(client);
            done += complete;
            if (complete > to_send) complete = to_send;
            if (complete) {
                to_send -= complete;
                client->left += complete;
                write_all(client->fd, burst.data, (size_t)complete * request.size);
            }
        }
    }
    return done;
}

static long run_echo(long requests) {
    long first = requests < (long)clients_count * in_flight ? 1 : in_flight;
    if (requests < clients_count) die("fewer requests than clients");
    for (int i = 0; i < clients_count; i++) {
        clients[i].left = first;
        write_all(clients[i].fd, burst.data, (size_t)first * request.size);
    }
    return wait_for_all(requests, 1);
}

static long run_fan(long requests) {
    long done = 0;
    while (requests--) {
        for (int i = 0; i < clients_count; i++) clients[i].left = 1;
        write_all(clients[0].fd, request.data, request.size);
        done += wait_for_all(clients_count, 0);
    }
    return done;
}

int main(int argc, char **argv) {
    if (argc != 11) die("expected 10 arguments");
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);

    clients_count = atoi(argv[2]);
    in_flight = atoi(argv[3]);
    int is_fan = !strcmp(argv[4], "fan");
    clockid_t cpu;
    if (clock_getcpuclockid(atoi(argv[5]), &cpu)) die("no such process");
    Bytes head = unhex(argv[7]), hello = unhex(argv[8]);
    request = unhex(argv[9]);
    answer = unhex(argv[10]);
    burst.data = malloc(request.size * (size_t)in_flight);
    for (int i = 0; i < in_flight; i++)
        memcpy(burst.data + (size_t)i * request.size, request.data, request.size);

    clients = calloc((size_t)clients_count, sizeof *clients);
    epoll_fd = epoll_create1(0);
    for (int i = 0; i < clients_count; i++)
        open_client(i, atoi(argv[1]), (char *)head.data, atoi(argv[6]), hello);
    puts("ready");
    fflush(stdout);

    char line[64];
    while (fgets(line, sizeof line, stdin)) {
        double cpu_start = now(cpu), start = now(CLOCK_MONOTONIC);
        long done = is_fan ? run_fan(atol(line)) : run_echo(atol(line));
        double wall = now(CLOCK_MONOTONIC) - start;
        usleep(2000); /* until the server sleeps, its CPU clock lags by up to a tick */
        printf("%ld %.9f %.9f\n", done, wall, now(cpu) - cpu_start);
        fflush(stdout);
    }
    return 0;
}
