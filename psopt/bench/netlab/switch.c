/* A slow network on one machine: a switch in user space, for kernels without traffic shapers.
 *
 *     switch PREFIX HOSTS MEGABIT LATENCY_MS [BACKLOG_MS]
 *
 * makes the TAP devices PREFIX0, PREFIX1, ...: one a host, which whoever started it moves into a namespace of the host's
 * own. Host i has the hardware address 02:00:00:00:00:i. A frame takes, like on a real star of cables,
 *
 *     its bytes / rate on the sender's cable, behind what that host sent before        (uplink)
 *     LATENCY_MS until it reaches the port of the receiver
 *     its bytes / rate on the receiver's cable, behind what came for that host before  (downlink)
 *
 * so that a host whom many send to at once is a bottleneck. 24 bytes a frame are added for preamble, checksum and gap.
 * A port holds BACKLOG_MS (default 4000) of frames and drops what is beyond: by default no frame is lost. Prints "ready";
 * when asked (SIGUSR1) and at the end (SIGTERM, or the death of its parent) a line a host: frames and bytes up, down,
 * dropped, all counted from the start.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum { MOST_HOSTS = 64, LONGEST = 2048, SLOTS = 1 << 15, ON_THE_WIRE = 24, AT_A_TIME = 16 };

/* A frame is read from a device no earlier than this before its turn on the cable: the rest waits in the sender's
 * kernel, as behind a real network card. */
static const uint64_t AHEAD_NS = 1000000;

typedef struct {
    uint64_t at_ns; /* on its way: when it reaches the receiver's port; at the port: when its last bit is through */
    int to, bytes;
    unsigned char *content;
} frame;

/* Frames in the order of their times, which only grow. */
typedef struct {
    frame *slots;
    uint32_t first, end;
} line;

typedef struct {
    int device;
    uint64_t up_free_ns, down_free_ns; /* when the cable is free again */
    line on_the_way, at_port;
    uint64_t frames_up, bytes_up, frames_down, bytes_down, dropped;
} host;

static host hosts[MOST_HOSTS];
static int count;
static double ns_a_byte;
static uint64_t latency_ns, backlog_ns;
static volatile sig_atomic_t over, asked;

static void end(int number) { (void)number; over = 1; }
static void ask(int number) { (void)number; asked = 1; }

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int empty(const line *l) { return l->first == l->end; }
static frame *head(line *l) { return &l->slots[l->first % SLOTS]; }
static int full(const line *l) { return l->end - l->first == SLOTS; }
static void put(line *l, frame f) { l->slots[l->end++ % SLOTS] = f; }

static uint64_t cable_ns(int bytes) { return (uint64_t)((bytes + ON_THE_WIRE) * ns_a_byte); }

/* The host whose frame is the next to reach a port, NULL if none is on its way. */
static host *next_arrival(void) {
    host *first = NULL;
    for (host *h = hosts; h < hosts + count; h++)
        if (!empty(&h->on_the_way) && (!first || head(&h->on_the_way)->at_ns < head(&first->on_the_way)->at_ns))
            first = h;
    return first;
}

static void drop(host *h, frame f) {
    h->dropped++;
    free(f.content);
}

/* Takes every frame that has reached a port by now to the end of that port's line. */
static void arrive(uint64_t now) {
    host *from;
    while ((from = next_arrival()) && head(&from->on_the_way)->at_ns <= now) {
        frame f = *head(&from->on_the_way);
        from->on_the_way.first++;
        host *to = &hosts[f.to];
        uint64_t begin = f.at_ns > to->down_free_ns ? f.at_ns : to->down_free_ns;
        if (full(&to->at_port) || begin - f.at_ns > backlog_ns) {
            drop(to, f);
            continue;
        }
        f.at_ns = to->down_free_ns = begin + cable_ns(f.bytes);
        put(&to->at_port, f);
    }
}

/* Hands over every frame whose last bit is through. */
static void deliver(host *h, uint64_t now) {
    while (!empty(&h->at_port) && head(&h->at_port)->at_ns <= now) {
        frame f = *head(&h->at_port);
        h->at_port.first++;
        if (write(h->device, f.content, (size_t)f.bytes) != f.bytes) {
            drop(h, f);
            continue;
        }
        h->frames_down++;
        h->bytes_down += (uint64_t)f.bytes;
        free(f.content);
    }
}

static void send_copy(host *from, int to, const unsigned char *content, int bytes) {
    frame f = {from->up_free_ns + latency_ns, to, bytes, malloc((size_t)bytes)};
    if (!f.content) abort();
    memcpy(f.content, content, (size_t)bytes);
    if (full(&from->on_the_way)) drop(from, f);
    else put(&from->on_the_way, f);
}

/* Reads what a host sends, until its cable is taken for some time. */
static void take(int from) {
    static unsigned char content[LONGEST];
    host *h = &hosts[from];
    for (int n = 0; n < AT_A_TIME; n++) {
        uint64_t now = now_ns();
        if (h->up_free_ns > now + AHEAD_NS) return;
        int bytes = (int)read(h->device, content, sizeof content);
        if (bytes < 14) return;
        h->up_free_ns = (h->up_free_ns > now ? h->up_free_ns : now) + cable_ns(bytes);
        h->frames_up++;
        h->bytes_up += (uint64_t)bytes;
        int everyone = content[0] & 1;
        for (int to = 0; to < count; to++)
            if (to != from && (everyone || (content[0] == 2 && content[5] == to))) send_copy(h, to, content, bytes);
    }
}

static int open_device(const char *prefix, int number) {
    struct ifreq wish = {.ifr_flags = IFF_TAP | IFF_NO_PI};
    snprintf(wish.ifr_name, IFNAMSIZ, "%s%d", prefix, number);
    int device = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (device < 0 || ioctl(device, TUNSETIFF, &wish) < 0) {
        fprintf(stderr, "switch: no device %s: %s\n", wish.ifr_name, strerror(errno));
        exit(1);
    }
    return device;
}

static void earlier(uint64_t *soonest, uint64_t at) { if (at < *soonest) *soonest = at; }

/* Sleeps until a frame comes, or until the next one is due. */
static void wait_for_frames(struct pollfd *polled, const sigset_t *unheard) {
    uint64_t now = now_ns(), soonest = UINT64_MAX;
    host *from = next_arrival();
    if (from) earlier(&soonest, head(&from->on_the_way)->at_ns);
    for (int i = 0; i < count; i++) {
        host *h = &hosts[i];
        if (!empty(&h->at_port)) earlier(&soonest, head(&h->at_port)->at_ns);
        polled[i] = (struct pollfd){.fd = h->device, .events = POLLIN};
        if (h->up_free_ns > now + AHEAD_NS) {
            polled[i].events = 0;
            earlier(&soonest, h->up_free_ns - AHEAD_NS);
        }
    }
    uint64_t left = soonest > now ? soonest - now : 0;
    struct timespec sleep = {(time_t)(left / 1000000000u), (long)(left % 1000000000u)};
    ppoll(polled, (nfds_t)count, soonest == UINT64_MAX ? NULL : &sleep, unheard);
}

static void tell(void) {
    for (int i = 0; i < count; i++) {
        host *h = &hosts[i];
        printf("host %d up %llu %llu down %llu %llu dropped %llu\n", i, (unsigned long long)h->frames_up,
               (unsigned long long)h->bytes_up, (unsigned long long)h->frames_down, (unsigned long long)h->bytes_down,
               (unsigned long long)h->dropped);
    }
    fflush(stdout);
}

int main(int argc, char **argv) {
    if (argc < 5 || argc > 6) {
        fprintf(stderr, "usage: switch PREFIX HOSTS MEGABIT LATENCY_MS [BACKLOG_MS]\n");
        return 2;
    }
    count = atoi(argv[2]);
    double megabit = atof(argv[3]), latency_ms = atof(argv[4]), backlog_ms = argc > 5 ? atof(argv[5]) : 4000;
    if (count < 2 || count > MOST_HOSTS || megabit <= 0 || latency_ms < 0 || backlog_ms <= 0) {
        fprintf(stderr, "switch: 2 to %d hosts, a rate above 0, a latency of 0 or more\n", MOST_HOSTS);
        return 2;
    }
    ns_a_byte = 8000.0 / megabit;
    latency_ns = (uint64_t)(latency_ms * 1e6);
    backlog_ns = (uint64_t)(backlog_ms * 1e6);
    prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0);
    /* A cable does not wait for a processor; where this is not allowed, the network is as exact as the machine is idle. */
    struct sched_param first = {.sched_priority = 1};
    sched_setscheduler(0, SCHED_FIFO, &first);
    prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
    struct sigaction ending = {.sa_handler = end};
    sigaction(SIGTERM, &ending, NULL);
    sigaction(SIGINT, &ending, NULL);
    struct sigaction asking = {.sa_handler = ask};
    sigaction(SIGUSR1, &asking, NULL);
    sigset_t question, otherwise; /* heard while waiting only, so that none is missed */
    sigemptyset(&question);
    sigaddset(&question, SIGUSR1);
    sigprocmask(SIG_BLOCK, &question, &otherwise);
    sigdelset(&otherwise, SIGUSR1);
    for (int i = 0; i < count; i++) {
        hosts[i].device = open_device(argv[1], i);
        hosts[i].on_the_way.slots = calloc(SLOTS, sizeof(frame));
        hosts[i].at_port.slots = calloc(SLOTS, sizeof(frame));
        if (!hosts[i].on_the_way.slots || !hosts[i].at_port.slots) abort();
    }
    printf("ready\n");
    fflush(stdout);
    struct pollfd polled[MOST_HOSTS];
    while (!over) {
        wait_for_frames(polled, &otherwise);
        uint64_t now = now_ns();
        arrive(now);
        for (int i = 0; i < count; i++) deliver(&hosts[i], now);
        for (int i = 0; i < count; i++) if (polled[i].revents & POLLIN) take(i);
        if (asked) {
            asked = 0;
            tell();
        }
    }
    tell();
    return 0;
}
