/* recv and send on a socket that must not block nor signal.

   On Linux past the libc, whose functions are points where a thread may be cancelled: in a process
   with threads, which every one with an executor is, that costs each call two atomic operations. */
#ifndef CHANSOCK_CALLS_H
#define CHANSOCK_CALLS_H

#include <sys/socket.h>
#include <sys/types.h>

#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

static inline ssize_t chansock_receive(int fd, void *data, ssize_t size)
{
#if defined(__linux__) && defined(SYS_recvfrom)
    return syscall(SYS_recvfrom, fd, data, (size_t)size, MSG_DONTWAIT, NULL, NULL);
#else
    return recv(fd, data, (size_t)size, MSG_DONTWAIT);
#endif
}

static inline ssize_t chansock_send(int fd, const void *data, ssize_t size)
{
#if defined(__linux__) && defined(SYS_sendto)
    return syscall(SYS_sendto, fd, data, (size_t)size, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0);
#else
    return send(fd, data, (size_t)size, MSG_DONTWAIT | MSG_NOSIGNAL);
#endif
}
#endif
