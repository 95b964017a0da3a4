/* The backend of the benchmarks: a WebSocket server on 127.0.0.1, one thread, one epoll set.
 *
 * What a connection gets depends on how its path ends: `/push`: messages of 128 bytes, in turn
 * over all such connections, PUSH a second in total; `/stream`: messages of 64 KiB as fast as they
 * are taken; anything else: its own messages back. Prints its port; ends when stdin does.
 */
#include "ws.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>

enum mode { OPENING, ECHO, PUSH_TO, STREAM, LEAVING };
enum { PUSH_SIZE = 128, STREAM_SIZE = 64 * 1024, PUSH_BEHIND = 1 << 20, TICKS = 1000 };

struct conn {
    int fd;
    enum mode mode;
    struct header header;
    int in_payload;
    uint64_t at; /* bytes of the payload seen */
    struct queue out;
    int blocked;
    size_t ring; /* index among those pushed to */
    char *head;
    size_t head_size;
};

static int poller;
static uint8_t input[READ];
static struct conn **pushed;
static size_t pushed_count, pushed_size, turn;

static void drop(struct conn *c) {
    if (c->mode == PUSH_TO) {
        pushed[c->ring] = pushed[--pushed_count];
        pushed[c->ring]->ring = c->ring;
    }
    close(c->fd);
    free(c->out.data);
    free(c->head);
    free(c);
}

static void watch(struct conn *c, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event)) die("epoll_ctl: %m");
}

static void put_message(struct conn *c, size_t size) {
    uint8_t *to = reserve(&c->out, size + 14);
    size_t n = put_header(to, FIN | BINARY, size, NULL);
    uint64_t now = nanoseconds();
    memcpy(to + n, &now, STAMP);
    memcpy(to + n + STAMP, pattern + STAMP, size - STAMP);
    c->out.end += n + size;
}

/* Send what waits; 0 when the connection is gone. */
static int flush(struct conn *c) {
    for (;;) {
        if (c->out.start == c->out.end) {
            if (c->mode == LEAVING) {
                shutdown(c->fd, SHUT_WR);
                drop(c);
                return 0;
            }
            if (c->mode == STREAM) put_message(c, STREAM_SIZE);
            else break;
        }
        ssize_t n = send(c->fd, c->out.data + c->out.start, c->out.end - c->out.start, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            if (!c->blocked) watch(c, c->mode == STREAM ? EPOLLIN | EPOLLOUT : EPOLLOUT);
            c->blocked = 1;
            return 1;
        }
        if (n < 0) {
            drop(c);
            return 0;
        }
        c->out.start += (size_t)n;
    }
    if (c->blocked) watch(c, EPOLLIN);
    c->blocked = 0;
    return 1;
}

static int frames(struct conn *c, const uint8_t *at, const uint8_t *end) {
    while (at < end || c->in_payload) {
        if (!c->in_payload) {
            if (!take_header(&c->header, &at, end)) break;
            if (!(c->header.raw[1] & MASKED)) die("echo: a frame is not masked");
            c->in_payload = 1;
            c->at = 0;
            uint8_t first = c->header.raw[0];
            if ((first & 15) == PING) first = FIN | PONG;
            c->out.end += put_header(reserve(&c->out, 14), first, c->header.size, NULL);
        }
        uint64_t left = c->header.size - c->at;
        size_t n = (size_t)(end - at) < left ? (size_t)(end - at) : (size_t)left;
        mask_copy(reserve(&c->out, n), at, n, mask_key(&c->header), c->at);
        c->out.end += n;
        c->at += n;
        at += n;
        if (c->at < c->header.size) break;
        c->in_payload = 0;
        c->header.have = 0;
        if ((c->header.raw[0] & 15) == CLOSE) {
            if (c->mode == PUSH_TO) { /* leaves the ring */
                pushed[c->ring] = pushed[--pushed_count];
                pushed[c->ring]->ring = c->ring;
            }
            c->mode = LEAVING;
            break;
        }
    }
    return flush(c);
}

static void join_push(struct conn *c) {
    if (pushed_count == pushed_size) {
        pushed_size = pushed_size * 2 + 64;
        if (!(pushed = realloc(pushed, pushed_size * sizeof *pushed))) die("out of memory");
    }
    c->ring = pushed_count;
    pushed[pushed_count++] = c;
}

static int opening(struct conn *c, const uint8_t *data, size_t size) {
    if (c->head_size + size > MAX_HEAD) {
        drop(c);
        return 0;
    }
    if (!(c->head = realloc(c->head, c->head_size + size + 1))) die("out of memory");
    memcpy(c->head + c->head_size, data, size);
    c->head_size += size;
    c->head[c->head_size] = 0;
    char *end = strstr(c->head, "\r\n\r\n"), *key = strcasestr(c->head, "\r\nsec-websocket-key:");
    if (!end) return 1;
    if (!key || key > end) { /* a health check of some proxy */
        static const char no[] = "HTTP/1.1 426 Upgrade Required\r\ncontent-length: 0\r\n\r\n";
        memcpy(reserve(&c->out, sizeof no), no, sizeof no - 1);
        c->out.end += sizeof no - 1;
        c->mode = LEAVING;
        return flush(c);
    }
    key += 20;
    while (*key == ' ') key++;
    char joined[128];
    uint8_t digest[SHA_DIGEST_LENGTH], accept[32];
    int n = snprintf(joined, sizeof joined, "%.24s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
    SHA1((uint8_t *)joined, (size_t)n, digest);
    EVP_EncodeBlock(accept, digest, sizeof digest);
    c->out.end += (size_t)sprintf((char *)reserve(&c->out, 256),
                                  "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                                  "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
                                  accept);
    char *path = strchr(c->head, ' ') + 1, *stop = path + strcspn(path, " ?\r");
    char *rest = end + 4;
    size_t rest_size = c->head_size - (size_t)(rest - c->head);
    c->mode = ECHO;
    if (stop - path >= 5 && !memcmp(stop - 5, "/push", 5)) c->mode = PUSH_TO, join_push(c);
    if (stop - path >= 7 && !memcmp(stop - 7, "/stream", 7)) c->mode = STREAM;
    char *head = c->head;
    c->head = NULL;
    int alive = frames(c, (uint8_t *)rest, (uint8_t *)rest + rest_size);
    free(head);
    return alive;
}

static void serve(struct conn *c, uint32_t events) {
    if (events & EPOLLOUT && !flush(c)) return;
    if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR))) return;
    ssize_t n = recv(c->fd, input, sizeof input, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) drop(c);
    else if (c->mode == OPENING) opening(c, input, (size_t)n);
    else if (c->mode != LEAVING) frames(c, input, input + n);
}

static void push(double *due, double rate) {
    for (*due += rate / TICKS; *due >= 1; *due -= 1) {
        if (!pushed_count) continue;
        struct conn *c = pushed[turn++ % pushed_count];
        if (c->out.end - c->out.start > PUSH_BEHIND) continue;
        put_message(c, PUSH_SIZE);
        if (!c->blocked) flush(c);
    }
}

int main(int argc, char **argv) {
    double rate = argc > 1 ? atof(argv[1]) : 10000, due = 0;
    fill_pattern();
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 4096)) die("bind: %m");
    getsockname(listener, (struct sockaddr *)&address, &size);
    poller = epoll_create1(0);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct itimerspec tick = {{0, 1000000000 / TICKS}, {0, 1000000000 / TICKS}};
    timerfd_settime(timer, 0, &tick, NULL);
    int own[] = {listener, timer, 0};
    for (int i = 0; i < 3; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &own[i]};
        if (epoll_ctl(poller, EPOLL_CTL_ADD, own[i], &event)) die("epoll_ctl: %m");
    }
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        struct epoll_event ready[256];
        int n = epoll_wait(poller, ready, 256, -1);
        for (int i = 0; i < n; i++) {
            if (ready[i].data.ptr == &own[0]) {
                int fd;
                while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                    struct conn *c = calloc(1, sizeof *c);
                    if (!c) die("out of memory");
                    c->fd = fd;
                    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
                    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl: %m");
                }
            } else if (ready[i].data.ptr == &own[1]) {
                uint64_t ticks = 0;
                if (read(timer, &ticks, sizeof ticks) < 0) ticks = 0;
                while (ticks--) push(&due, rate);
                /* Sending may have dropped a connection that is ready too: look again. */
                break;
            } else if (ready[i].data.ptr == &own[2]) {
                return 0;
            } else {
                serve(ready[i].data.ptr, ready[i].events);
            }
        }
    }
}
