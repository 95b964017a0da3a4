/* The load generator of the benchmarks: WebSocket clients on 127.0.0.1, one thread, one epoll set.
 *
 *   echo     --conns connections, each with --window messages under way; echoes verified;
 *            --pause: one message at a time, and so many milliseconds between two
 *   churn    --conns connections at a time: connect, --per echoes, Close, again
 *   listen   receives what a `/push` backend sends, and verifies it
 *   hold     connects, prints `ready`, and keeps the connections until stdin ends;
 *            --deaf: reads nothing after the handshake
 *
 * Measures between --warm and --seconds, and prints one line of JSON: what was done, the times
 * (µs), and the processor time that the processes --cpu PID,... spent meanwhile, read from their
 * clocks. Anything unexpected, a payload that differs first of all, ends it with an error.
 */
#include "ws.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>

enum mode { ECHO, CHURN, LISTEN, HOLD };
enum state { IDLE, CONNECTING, SECURING, OPENING, OPEN, CLOSING };
enum { AT_ONCE = 64, MAX_WINDOW = 64, MAX_PIDS = 64, BUCKETS = 2000000 };

struct conn {
    int fd;
    enum state state;
    SSL *tls;
    uint32_t id, epoch;
    uint32_t watching;
    uint64_t began, sent, received, wanted; /* messages */
    uint64_t due; /* time of the next message; 0: none is planned */
    uint64_t times[MAX_WINDOW];
    struct header header;
    int in_payload;
    uint64_t at;
    uint8_t stamp[STAMP];
    struct queue out;
    char head[1024];
    size_t head_size;
};

static struct {
    enum mode mode;
    int port, conns, window, per, tls, deaf;
    size_t least, most;
    double warm, seconds, pause;
    const char *path, *header, *host;
    pid_t pids[MAX_PIDS];
    int pid_count;
} want = {.conns = 1, .window = 1, .per = 1, .least = 128, .most = 128, .warm = 0.2,
          .seconds = 1, .path = "/", .host = "localhost"};

static struct conn *all;
static SSL_CTX *context;
static int poller, opening, open_count, next_conn, running, measuring;
static uint64_t messages, connections, random_state = 1;
static uint32_t *buckets; /* of one µs each */
static uint64_t slowest;
static uint8_t input[READ];
static char request[8192];
static size_t request_size;

static void begin_conn(struct conn *c);

static double processor_seconds(void) {
    double sum = 0;
    for (int i = 0; i < want.pid_count; i++) {
        clockid_t clock;
        struct timespec spent;
        if (clock_getcpuclockid(want.pids[i], &clock) || clock_gettime(clock, &spent))
            die("load: process %d is gone", (int)want.pids[i]);
        sum += (double)spent.tv_sec + (double)spent.tv_nsec * 1e-9;
    }
    return sum;
}

static void note_time(uint64_t ns) {
    uint64_t us = ns / 1000;
    buckets[us < BUCKETS ? us : BUCKETS - 1]++;
    if (us > slowest) slowest = us;
}

static double percentile(double part) {
    uint64_t total = 0, seen = 0;
    for (int i = 0; i < BUCKETS; i++) total += buckets[i];
    for (int i = 0; i < BUCKETS; i++)
        if ((seen += buckets[i]) > (uint64_t)((double)total * part)) return i + 0.5;
    return 0;
}

static void watch(struct conn *c, uint32_t events) {
    if (c->watching == events) return;
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(poller, c->watching ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, c->fd, &event))
        die("load: epoll_ctl: %m");
    c->watching = events;
}

/* Returns bytes moved, 0 at the end of the stream, -1 when it would block. */
static ssize_t moved(struct conn *c, ssize_t n, const char *what) {
    if (c->tls) {
        if (n > 0) return n;
        switch (SSL_get_error(c->tls, (int)n)) {
        case SSL_ERROR_WANT_READ:
        case SSL_ERROR_WANT_WRITE: return -1;
        case SSL_ERROR_ZERO_RETURN: return 0;
        default: die("load: %s over TLS failed in state %d: %s", what, c->state,
                     ERR_error_string(ERR_get_error(), NULL));
        }
    }
    if (n < 0 && errno != EAGAIN) die("load: %s failed in state %d: %m", what, c->state);
    return n;
}

static void flush(struct conn *c) {
    while (c->out.start < c->out.end) {
        size_t left = c->out.end - c->out.start;
        const uint8_t *from = c->out.data + c->out.start;
        ssize_t n = c->tls ? SSL_write(c->tls, from, (int)left)
                           : send(c->fd, from, left, MSG_NOSIGNAL);
        if ((n = moved(c, n, "sending")) < 0) {
            watch(c, EPOLLIN | EPOLLOUT);
            return;
        }
        c->out.start += (size_t)n;
    }
    watch(c, EPOLLIN);
}

static size_t size_of(const struct conn *c, uint64_t message) {
    if (want.least == want.most) return want.least;
    uint64_t seed = mix((uint64_t)c->id << 40 ^ (uint64_t)c->epoch << 20 ^ message);
    /* Short ones more often: uniform over the number of digits would be too many long ones. */
    size_t top = want.least + (seed & 7 ? (want.most - want.least) / 64 : want.most - want.least);
    return want.least + (seed >> 8) % (top - want.least + 1);
}

static void stamp(const struct conn *c, uint64_t message, uint8_t to[STAMP]) {
    uint64_t word = mix((uint64_t)c->id << 40 ^ (uint64_t)c->epoch << 20 ^ message ^ 1ull << 63);
    memcpy(to, &word, STAMP);
}

static void put_frame(struct conn *c, uint8_t first, const uint8_t own[STAMP], size_t size) {
    uint8_t key[4], *to = reserve(&c->out, size + 14);
    random_state = mix(random_state);
    memcpy(key, &random_state, 4);
    size_t n = put_header(to, first, size, key), head = size < STAMP ? size : STAMP;
    mask_copy(to + n, own, head, key, 0);
    mask_copy(to + n + head, pattern + head, size - head, key, head);
    c->out.end += n + size;
}

static void put_message(struct conn *c) {
    uint8_t own[STAMP];
    stamp(c, c->sent, own);
    put_frame(c, FIN | BINARY, own, size_of(c, c->sent));
    c->times[c->sent++ % MAX_WINDOW] = nanoseconds();
}

static void start_messages(struct conn *c) {
    for (int i = 0; i < want.window && c->sent < c->wanted; i++) put_message(c);
    flush(c);
}

static void end_conn(struct conn *c) {
    if (c->tls) SSL_free(c->tls);
    c->tls = NULL;
    close(c->fd);
    c->state = IDLE;
    c->watching = 0;
    open_count--;
}

static void opened(struct conn *c) {
    c->state = OPEN;
    opening--;
    open_count++;
    c->wanted = UINT64_MAX;
    if (want.mode == CHURN) {
        c->wanted = want.per == 1 ? 1 : 1 + mix(c->id ^ (uint64_t)c->epoch << 32) % (2 * want.per);
        start_messages(c);
    } else if (want.mode == ECHO && running) {
        start_messages(c);
    } else if (want.deaf) {
        watch(c, EPOLLRDHUP);
    }
}

/* One whole message has been received and verified. */
static void received(struct conn *c) {
    uint64_t now = nanoseconds(), then;
    if (want.mode == LISTEN) {
        memcpy(&then, c->stamp, STAMP);
    } else {
        then = c->times[c->received % MAX_WINDOW];
    }
    c->received++;
    if (measuring) {
        messages++;
        if (want.mode != CHURN) note_time(now - then);
    }
    if (want.mode == LISTEN || !running) return;
    if (want.pause > 0) {
        c->due = now + (uint64_t)(want.pause * 1e6);
    } else if (c->sent < c->wanted) {
        put_message(c);
    } else if (want.mode == CHURN && c->received == c->wanted) {
        static const uint8_t normal[STAMP] = {1000 >> 8, 1000 & 255};
        put_frame(c, FIN | CLOSE, normal, 2);
        c->state = CLOSING;
    }
}

static void frames(struct conn *c, const uint8_t *at, const uint8_t *end) {
    while (at < end || c->in_payload) {
        if (!c->in_payload) {
            if (!take_header(&c->header, &at, end)) return;
            uint8_t opcode = c->header.raw[0] & 15;
            if (c->header.raw[1] & MASKED) die("load: a frame is masked");
            c->in_payload = 1;
            c->at = 0;
            if (opcode == CLOSE && c->state == CLOSING) {
                connections += (uint64_t)measuring;
                if (measuring) note_time(nanoseconds() - c->began);
                end_conn(c);
                return;
            }
            if (c->header.raw[0] != (FIN | BINARY)) die("load: frame 0x%02x", c->header.raw[0]);
            size_t expected = want.mode == LISTEN ? 128 : size_of(c, c->received);
            if (c->header.size != expected)
                die("load: message of %zu bytes instead of %zu", (size_t)c->header.size, expected);
            if (want.mode != LISTEN) stamp(c, c->received, c->stamp);
        }
        uint64_t left = c->header.size - c->at;
        size_t n = (size_t)(end - at) < left ? (size_t)(end - at) : (size_t)left;
        const uint8_t *stop = at + n;
        for (; at < stop && c->at < STAMP; at++, c->at++) {
            if (want.mode == LISTEN) c->stamp[c->at] = *at;
            else if (*at != c->stamp[c->at]) die("load: payload differs at byte %d", (int)c->at);
        }
        if (memcmp(at, pattern + c->at, (size_t)(stop - at))) die("load: payload differs");
        c->at += (uint64_t)(stop - at);
        at = stop;
        if (c->at < c->header.size) return;
        c->in_payload = 0;
        c->header.have = 0;
        received(c);
    }
}

static void handshake(struct conn *c) {
    c->state = OPENING;
    memcpy(reserve(&c->out, request_size), request, request_size);
    c->out.end += request_size;
    flush(c);
}

static void secure(struct conn *c) {
    int done = SSL_connect(c->tls);
    if (done == 1) {
        handshake(c);
        return;
    }
    int error = SSL_get_error(c->tls, done);
    if (error == SSL_ERROR_WANT_READ) watch(c, EPOLLIN);
    else if (error == SSL_ERROR_WANT_WRITE) watch(c, EPOLLOUT);
    else die("load: TLS handshake: %s", ERR_error_string(ERR_get_error(), NULL));
}

static void head(struct conn *c, const uint8_t *data, size_t size) {
    size_t room = sizeof c->head - 1 - c->head_size, n = size < room ? size : room;
    memcpy(c->head + c->head_size, data, n);
    c->head[c->head_size + n] = 0;
    char *end = strstr(c->head, "\r\n\r\n");
    if (!end && n < size) die("load: long response head:\n%s", c->head);
    if (!end) {
        c->head_size += n;
        return;
    }
    if (strncmp(c->head, "HTTP/1.1 101 ", 13)) die("load: refused:\n%s", c->head);
    size_t used = (size_t)(end + 4 - c->head) - c->head_size;
    opened(c);
    if (!want.deaf) frames(c, data + used, data + size);
}

static void readable(struct conn *c) {
    for (;;) {
        ssize_t n = c->tls ? SSL_read(c->tls, input, sizeof input)
                           : recv(c->fd, input, sizeof input, 0);
        if ((n = moved(c, n, "receiving")) < 0) break;
        if (n == 0) die("load: closed by the peer in state %d", c->state);
        if (c->state == OPENING) head(c, input, (size_t)n);
        else frames(c, input, input + n);
        if (c->state == IDLE || c->state == OPENING || want.deaf) break;
        if (c->tls ? !SSL_pending(c->tls) : n < (ssize_t)sizeof input) break;
    }
    if (c->state == OPEN || c->state == CLOSING) {
        if (!want.deaf) flush(c);
    } else if (c->state == IDLE && running) {
        begin_conn(c);
    }
}

static void begin_conn(struct conn *c) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)want.port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    if ((c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0)) < 0) die("load: socket: %m");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->epoch++;
    c->sent = c->received = c->head_size = 0;
    c->header.have = 0;
    c->in_payload = 0;
    c->out.start = c->out.end = 0;
    c->state = CONNECTING;
    c->began = nanoseconds();
    opening++;
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS)
        die("load: connect: %m");
    watch(c, EPOLLOUT);
}

static void serve(struct conn *c, uint32_t events) {
    if (c->state == IDLE) return;
    if (c->state == CONNECTING) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error) die("load: connect: %s", strerror(error));
        if (want.tls) {
            if (!(c->tls = SSL_new(context))) die("load: out of memory");
            SSL_set_fd(c->tls, c->fd);
            c->state = SECURING;
            secure(c);
        } else {
            handshake(c);
        }
    } else if (c->state == SECURING) {
        secure(c);
    } else {
        if (events & EPOLLOUT) flush(c);
        if (events & (EPOLLIN | EPOLLHUP | EPOLLERR | EPOLLRDHUP)) readable(c);
    }
}

/* Sends the messages whose time has come. */
static void send_due(uint64_t now) {
    for (int i = 0; i < want.conns; i++) {
        if (!all[i].due || all[i].due > now) continue;
        all[i].due = 0;
        put_message(&all[i]);
        flush(&all[i]);
    }
}

static void loop(uint64_t until, int all_open) {
    for (;;) {
        while (next_conn < want.conns && opening < AT_ONCE) begin_conn(&all[next_conn++]);
        if (all_open && open_count == want.conns) return;
        uint64_t now = nanoseconds();
        if (now >= until) {
            if (all_open) die("load: only %d of %d connected in time", open_count, want.conns);
            return;
        }
        int wait = (int)((until - now) / 1000000) + 1;
        if (want.pause > 0) send_due(now), wait = 1;
        struct epoll_event ready[256];
        int n = epoll_wait(poller, ready, 256, wait);
        for (int i = 0; i < n; i++) serve(ready[i].data.ptr, ready[i].events);
    }
}

static void hold(void) {
    puts("ready");
    fflush(stdout);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, 0, &event)) die("load: stdin: %m");
    for (;;) {
        struct epoll_event ready[256];
        int n = epoll_wait(poller, ready, 256, -1);
        for (int i = 0; i < n; i++) {
            if (!ready[i].data.ptr) exit(0);
            if (want.deaf) die("load: a connection ended");
            serve(ready[i].data.ptr, ready[i].events);
        }
    }
}

static void options(int argc, char **argv) {
    static const struct option known[] = {
        {"port", 1, 0, 'p'}, {"path", 1, 0, 'u'},   {"header", 1, 0, 'H'},  {"host", 1, 0, 'h'},
        {"conns", 1, 0, 'c'}, {"window", 1, 0, 'w'}, {"size", 1, 0, 's'},    {"most", 1, 0, 'm'},
        {"per", 1, 0, 'n'},   {"warm", 1, 0, 'W'},   {"seconds", 1, 0, 't'}, {"cpu", 1, 0, 'P'},
        {"tls", 0, 0, 'T'},   {"pause", 1, 0, 'p' + 256},   {"deaf", 0, 0, 'd'},   {0, 0, 0, 0}};
    static const char *const modes[] = {"echo", "churn", "listen", "hold"};
    int found = 0;
    for (int i = 0; argc > 1 && i < 4; i++)
        if (!strcmp(argv[1], modes[i])) want.mode = (enum mode)i, found = 1;
    if (!found) die("usage: wsload echo|churn|listen|hold --port PORT ...");
    optind = 2;
    for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        switch (option) {
        case 'p': want.port = atoi(optarg); break;
        case 'u': want.path = optarg; break;
        case 'H': want.header = optarg; break;
        case 'h': want.host = optarg; break;
        case 'c': want.conns = atoi(optarg); break;
        case 'w': want.window = atoi(optarg); break;
        case 's': want.least = want.most = (size_t)atol(optarg); break;
        case 'm': want.most = (size_t)atol(optarg); break;
        case 'n': want.per = atoi(optarg); break;
        case 'W': want.warm = atof(optarg); break;
        case 't': want.seconds = atof(optarg); break;
        case 'T': want.tls = 1; break;
        case 'p' + 256: want.pause = atof(optarg); break;
        case 'd': want.deaf = 1; break;
        case 'P':
            for (char *one = strtok(optarg, ","); one; one = strtok(NULL, ",")) {
                if (want.pid_count == MAX_PIDS) die("load: too many processes");
                want.pids[want.pid_count++] = atoi(one);
            }
            break;
        default: exit(2);
        }
    }
    if (want.window < 1 || want.window > MAX_WINDOW) die("load: --window is 1 to %d", MAX_WINDOW);
    if (want.least < STAMP || want.most < want.least || want.most > MAX_PAYLOAD)
        die("load: sizes are %d to %d", STAMP, MAX_PAYLOAD);
}

int main(int argc, char **argv) {
    options(argc, argv);
    fill_pattern();
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGPIPE, SIG_IGN);
    if (want.tls) {
        context = SSL_CTX_new(TLS_client_method()); /* loopback: nobody to be mistaken for */
        SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    }
    request_size = (size_t)snprintf(
        request, sizeof request,
        "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "User-Agent: wsload\r\n%s%s\r\n",
        want.path, want.host, want.header ? want.header : "", want.header ? "\r\n" : "");
    if (request_size >= sizeof request) die("load: the request head is too long");
    all = calloc((size_t)want.conns, sizeof *all);
    buckets = calloc(BUCKETS, sizeof *buckets);
    poller = epoll_create1(0);
    if (!all || !buckets || poller < 0) die("load: out of memory");
    for (int i = 0; i < want.conns; i++) all[i].id = (uint32_t)i + 1;

    const uint64_t second = 1000000000;
    if (want.mode == CHURN) running = 1;
    else loop(nanoseconds() + 60 * second, 1);
    if (want.mode == HOLD) hold();
    running = 1;
    for (int i = 0; want.mode == ECHO && i < want.conns; i++) {
        if (want.pause > 0) /* spread over one pause */
            all[i].due = nanoseconds() + (uint64_t)(want.pause * 1e6 * i / want.conns) + 1;
        else
            start_messages(&all[i]);
    }
    loop(nanoseconds() + (uint64_t)(want.warm * 1e9), 0);
    double before = processor_seconds();
    uint64_t start = nanoseconds();
    measuring = 1;
    loop(start + (uint64_t)(want.seconds * 1e9), 0);
    uint64_t stop = nanoseconds();
    double spent = processor_seconds() - before;
    printf("{\"messages\": %llu, \"connections\": %llu, \"seconds\": %.6f, \"cpu\": %.9f, "
           "\"p50\": %.1f, \"p99\": %.1f, \"max\": %llu}\n",
           (unsigned long long)messages, (unsigned long long)connections,
           (double)(stop - start) * 1e-9, spent, percentile(0.5), percentile(0.99),
           (unsigned long long)slowest);
    return 0;
}
