/* Linux's epoll, and the calls on sockets beside it. Where there is no epoll, CHANSOCK_EPOLL is 0
   and every call fails with ENOSYS. */
#ifndef CHANSOCK_EPOLL_H
#define CHANSOCK_EPOLL_H

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>

/* A peer's address as it came; family 4 or 6, or 0 for one that has none. */
typedef struct {
    uint8_t bytes[16];
    uint32_t flow, scope;
    uint16_t port;
    uint8_t family;
} chansock_peer;

#ifdef __linux__
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHANSOCK_EPOLL 1

typedef struct epoll_event chansock_event;

static inline int chansock_epoll_create(void) { return epoll_create1(EPOLL_CLOEXEC); }

/* Watch for `mask`, instead of `before`; 0: not at all. */
static inline int chansock_epoll_watch(int epoll, int fd, uint32_t mask, uint32_t before,
                                       uint64_t mark)
{
    struct epoll_event event;
    event.events = mask;
    event.data.u64 = mark;
    return epoll_ctl(epoll, !mask ? EPOLL_CTL_DEL : !before ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd,
                     &event);
}

static inline int chansock_epoll_ready(int epoll, chansock_event *events, int most)
{
    return epoll_wait(epoll, events, most, 0);
}

static inline uint64_t chansock_event_mark(const chansock_event *event) { return event->data.u64; }

static inline uint32_t chansock_event_mask(const chansock_event *event) { return event->events; }

typedef union {
    struct sockaddr any;
    struct sockaddr_in four;
    struct sockaddr_in6 six;
} chansock_address;

static inline void chansock_note_peer(const chansock_address *from, chansock_peer *peer)
{
    memset(peer, 0, sizeof *peer);
    if (from->any.sa_family == AF_INET) {
        peer->family = 4;
        peer->port = ntohs(from->four.sin_port);
        memcpy(peer->bytes, &from->four.sin_addr, 4);
    } else if (from->any.sa_family == AF_INET6) {
        peer->family = 6;
        peer->port = ntohs(from->six.sin6_port);
        peer->flow = ntohl(from->six.sin6_flowinfo);
        peer->scope = from->six.sin6_scope_id;
        memcpy(peer->bytes, &from->six.sin6_addr, 16);
    }
}

/* The next connection, which does not block; or -1. */
static inline int chansock_accept(int fd, chansock_peer *peer)
{
    chansock_address from;
    socklen_t size = sizeof from;
    int accepted = accept4(fd, &from.any, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (accepted >= 0)
        chansock_note_peer(&from, peer);
    return accepted;
}

/* Whom a connection that was accepted elsewhere is to; -1: it is none any more. */
static inline int chansock_peer_of(int fd, chansock_peer *peer)
{
    chansock_address from;
    socklen_t size = sizeof from;
    if (getpeername(fd, &from.any, &size) < 0)
        return -1;
    chansock_note_peer(&from, peer);
    return 0;
}

static inline int chansock_no_delay(int fd)
{
    int on = 1;
    return setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/* Let the kernel take no more than so many bytes that it can't send yet. */
static inline int chansock_bound_unsent(int fd, int bytes)
{
    return setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &bytes, sizeof bytes);
}

static inline int chansock_end_sending(int fd) { return shutdown(fd, SHUT_WR); }

static inline int chansock_close(int fd) { return close(fd); }

/* The time, as cheap as it comes: in steps of 1 to 10 ms. */
static inline int64_t chansock_tick(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Microseconds of CPU time that this thread has taken, so that other processes don't count; a call
   into the kernel of some 0.2 us. */
static inline int64_t chansock_cpu_time(void)
{
    struct timespec taken;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &taken);
    return (int64_t)taken.tv_sec * 1000000 + taken.tv_nsec / 1000;
}
#else
#define CHANSOCK_EPOLL 0
#define CHANSOCK_NONE(...) (errno = ENOSYS, -1)

enum { EPOLLIN = 1, EPOLLOUT = 2, EPOLLERR = 4, EPOLLHUP = 8 };

typedef struct {
    uint64_t none;
} chansock_event;

#define chansock_epoll_create CHANSOCK_NONE
#define chansock_epoll_watch CHANSOCK_NONE
#define chansock_epoll_ready CHANSOCK_NONE
#define chansock_event_mark(event) ((event)->none)
#define chansock_event_mask(event) ((uint32_t)(event)->none)
#define chansock_accept CHANSOCK_NONE
#define chansock_peer_of CHANSOCK_NONE
#define chansock_no_delay CHANSOCK_NONE
#define chansock_bound_unsent CHANSOCK_NONE
#define chansock_end_sending CHANSOCK_NONE
#define chansock_close CHANSOCK_NONE
#define chansock_tick CHANSOCK_NONE
#define chansock_cpu_time CHANSOCK_NONE
#endif
#endif
