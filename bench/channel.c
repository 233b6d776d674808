/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starts a device process with one LSI 53C895A, and measures what it costs: the time from exec to
 * its first answer, until its device serves a channel, the round trip of a configuration read, and
 * its memory when idle.
 *
 *   channel-bench ours PROGRAM                      our device process; vfio-user
 *   channel-bench x-remote QEMU-PROGRAM             stock QEMU's -machine x-remote; its own link
 *
 * Prints one JSON line per figure. Placement of the two processes decides the round trip, so each
 * is named: same (both on one CPU), apart (one CPU each), free (left to the scheduler).
 */
#include "base/bytes.h"
#include "base/fd.h"
#include "event/loop.h"
#include "ipc/primary.h"
#include "vfio_user/client.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

enum { STARTS = 21, READS = 20000, TIMEOUT_MS = 10000, IDLE_MS = 300 };

/* QEMU's link, as far as it is needed: a configuration read and its reply. */
struct link_header { int32_t cmd; uint32_t pad; uint64_t size; };
struct link_access { uint32_t addr, val; int32_t len; } __attribute__((packed));
enum { LINK_RET = 1, LINK_CFGREAD = 3 };

/* A started device process and the way to its configuration space. */
struct subject {
    const char *kind;
    pid_t pid;
    struct loop *loop;
    struct primary *primary;            /* ours */
    struct vfu_client *client;          /* ours */
    int link;                           /* x-remote; -1 */
    double first_ms, serving_ms;        /* since exec */
};

static void figure(const char *kind, const char *name, double value, const char *unit)
{
    printf("{\"name\": \"%s.%s\", \"value\": %.3f, \"unit\": \"%s\"}\n", kind, name, value, unit);
    fflush(stdout);
}

static double since_ms(uint64_t begin_ns)
{
    return (double)(clock_now_ns() - begin_ns) / 1e6;
}

static void pin(pid_t pid, int cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    if (cpu >= 0)
        CPU_SET(cpu, &set);
    for (int i = 0; cpu < 0 && i < CPU_SETSIZE; i++)
        CPU_SET(i, &set);
    sched_setaffinity(pid, sizeof set, &set);
}

/* Runs argv with descriptor fd as number at in the child. The child's messages are not ours. */
static pid_t spawn(char *const argv[], int fd, int at)
{
    pid_t pid = fork();

    if (pid != 0)
        return pid;
    if (dup2(fd, at) < 0 || (fd == at && fd_set_cloexec(fd, false) < 0))
        _exit(127);
    execvp(argv[0], argv);
    _exit(127);
}

static int start_ours(struct subject *s, const char *program, struct error *err)
{
    int pair[2];
    int r = primary_pair(pair);
    if (r < 0)
        return error_set(err, r, "no socket pair");

    char *argv[] = { (char *)program, "5", NULL };
    uint64_t begin = clock_now_ns();
    s->pid = spawn(argv, pair[1], 5);
    close(pair[1]);
    r = loop_new(&s->loop, err);
    if (r < 0)
        return r;
    static const struct primary_ops none = { 0 };
    r = primary_new(s->loop, pair[0], &none, NULL, &s->primary, err);
    if (r < 0)
        return r;

    json_t *answer = NULL;
    struct primary_fds in = { .count = 0 };
    r = primary_call(s->primary, "query-status", NULL, NULL, 0, TIMEOUT_MS, &answer, &in, err);
    if (r < 0)
        return r;
    json_decref(answer);
    s->first_ms = since_ms(begin);

    json_t *args = json_pack("{s:s,s:s}", "driver", "lsi53c895a", "id", "dev0");
    r = primary_call(s->primary, "device_add", args, NULL, 0, TIMEOUT_MS, &answer, &in, err);
    json_decref(args);
    if (r < 0)
        return r;
    json_decref(answer);

    int channel[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, channel) < 0)
        return error_set(err, -errno, "no socket pair");
    args = json_pack("{s:s,s:i}", "device", "dev0", "fd", 0);
    r = primary_call(s->primary, "channel-open", args, &channel[1], 1, TIMEOUT_MS, &answer, &in,
                     err);
    json_decref(args);
    close(channel[1]);
    if (r < 0) {
        close(channel[0]);
        return r;
    }
    json_decref(answer);
    static const struct vfu_client_ops no_ops = { 0 };
    r = vfu_client_new(&(struct vfu_client_config){ .loop = s->loop, .fd = channel[0],
                                                    .ops = &no_ops }, &s->client, err);
    if (r < 0)
        return r;
    uint32_t id;
    r = vfu_client_read(s->client, VFU_CONFIG, 0, &id, sizeof id);
    if (r < 0)
        return error_set(err, r, "the device's configuration space cannot be read");
    s->serving_ms = since_ms(begin);
    return 0;
}

static int link_read(int fd, uint32_t addr, uint32_t *ret_value)
{
    struct { struct link_header head; struct link_access body; } __attribute__((packed)) ask = {
        .head = { .cmd = LINK_CFGREAD, .size = sizeof ask.body },
        .body = { .addr = addr, .len = 4 } };
    struct { struct link_header head; uint64_t value; } reply;

    int r = fd_write_all(fd, &ask, sizeof ask);
    if (r == 0)
        r = fd_read_all(fd, &reply, sizeof reply);
    if (r == 0 && (reply.head.cmd != LINK_RET || reply.head.size != 8))
        r = -EPROTO;
    if (r == 0)
        *ret_value = (uint32_t)reply.value;
    return r;
}

static int start_remote(struct subject *s, const char *program, struct error *err)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return error_set(err, -errno, "no socket pair");
    s->link = pair[0];
    char *argv[] = { (char *)program, "-machine", "x-remote", "-display", "none", "-monitor",
                     "none", "-serial", "none", "-device", "lsi53c895a,id=dev0", "-object",
                     "x-remote-object,id=robj1,devid=dev0,fd=5", NULL };
    uint64_t begin = clock_now_ns();
    s->pid = spawn(argv, pair[1], 5);
    close(pair[1]);
    uint32_t id;
    int r = link_read(s->link, 0, &id);
    if (r < 0)
        return error_set(err, r, "'%s' did not answer", program);
    s->first_ms = s->serving_ms = since_ms(begin);
    return 0;
}

static int config_read(struct subject *s, uint32_t *ret_value)
{
    if (s->link >= 0)
        return link_read(s->link, 0, ret_value);
    return vfu_client_read(s->client, VFU_CONFIG, 0, ret_value, sizeof *ret_value);
}

static void stop(struct subject *s)
{
    vfu_client_free(s->client);
    primary_free(s->primary);
    if (s->loop)
        loop_free(s->loop);
    if (s->link >= 0)
        close(s->link);
    if (s->pid > 0) {
        kill(s->pid, SIGKILL);
        waitpid(s->pid, NULL, 0);
    }
}

static int start(struct subject *s, const char *kind, const char *program, struct error *err)
{
    *s = (struct subject){ .kind = kind, .link = -1 };
    return strcmp(kind, "ours") ? start_remote(s, program, err) : start_ours(s, program, err);
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static double rank(double *values, size_t count, double part)
{
    qsort(values, count, sizeof *values, by_size);
    return values[(size_t)((double)(count - 1) * part)];
}

/* The kernel's account of a process, in KiB: the sum of the lines that begin with key. */
static double memory_kib(pid_t pid, const char *key)
{
    char path[64], line[256];
    double sum = 0;

    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)pid);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, key, strlen(key)))
            sum += strtod(strchr(line, ':') + 1, NULL);
    if (f)
        fclose(f);
    return sum;
}

static int round_trips(struct subject *s, const char *place, int our_cpu, int its_cpu,
                       struct error *err)
{
    static double us[READS];
    char name[64];
    uint32_t value;

    pin(0, our_cpu);
    pin(s->pid, its_cpu);
    for (int i = -1000; i < READS; i++) {
        uint64_t begin = clock_now_ns();
        int r = config_read(s, &value);
        if (r < 0)
            return error_set(err, r, "a configuration read failed");
        if (i >= 0)
            us[i] = (double)(clock_now_ns() - begin) / 1e3;
    }
    snprintf(name, sizeof name, "config-read-%s", place);
    figure(s->kind, name, rank(us, READS, 0.5), "us");
    snprintf(name, sizeof name, "config-read-%s-p99", place);
    figure(s->kind, name, rank(us, READS, 0.99), "us");
    return 0;
}

static int measure(const char *kind, const char *program, struct error *err)
{
    static double first[STARTS], serving[STARTS];
    struct subject s;
    int r = 0;

    for (int i = 0; i < STARTS; i++) {
        r = start(&s, kind, program, err);
        first[i] = s.first_ms;
        serving[i] = s.serving_ms;
        if (r < 0 || i + 1 < STARTS)
            stop(&s);
        if (r < 0)
            return r;
    }
    figure(kind, "start-to-first-answer", rank(first, STARTS, 0.5), "ms");
    figure(kind, "start-to-device-serving", rank(serving, STARTS, 0.5), "ms");

    poll(NULL, 0, IDLE_MS);
    figure(kind, "private-idle", memory_kib(s.pid, "Private_Clean") +
           memory_kib(s.pid, "Private_Dirty"), "KiB");
    figure(kind, "private-dirty-idle", memory_kib(s.pid, "Private_Dirty"), "KiB");
    figure(kind, "resident-idle", memory_kib(s.pid, "Rss"), "KiB");

    r = round_trips(&s, "same-cpu", 0, 0, err);
    if (r == 0 && sysconf(_SC_NPROCESSORS_ONLN) > 1)
        r = round_trips(&s, "apart", 0, 1, err);
    if (r == 0)
        r = round_trips(&s, "free", -1, -1, err);
    stop(&s);
    return r;
}

int main(int argc, char **argv)
{
    struct error err = { 0 };

    if (argc != 3 || (strcmp(argv[1], "ours") && strcmp(argv[1], "x-remote"))) {
        fprintf(stderr, "usage: channel-bench ours|x-remote PROGRAM\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    if (measure(argv[1], argv[2], &err) < 0) {
        fprintf(stderr, "channel-bench: %s: %s\n", argv[1], err.text);
        return 1;
    }
    return 0;
}
