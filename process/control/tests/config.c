/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include "config.h"

#include <errno.h>
#include <string.h>

enum { ARGS_MAX = 48 };

/* Words separated by single spaces, behind "bulkhead -kernel k". */
static int parse_words(const char *words, struct config **ret_config, struct error *err)
{
    const char *argv[ARGS_MAX] = { "bulkhead", "-kernel", "k" };
    int argc = 3;
    static char text[4096];

    snprintf(text, sizeof text, "%s", words);
    for (char *word = strtok(text, " "); word; word = strtok(NULL, " "))
        argv[argc++] = word;
    return config_parse(argc, argv, ret_config, err);
}

static struct config *parse(const char *words)
{
    struct config *c;
    struct error err = { 0 };
    if (parse_words(words, &c, &err) < 0)
        fail_msg("%s: %s", words, err.text);
    return c;
}

static void check_refused(const char *words, const char *part)
{
    struct config *c;
    struct error err = { 0 };

    if (parse_words(words, &c, &err) == 0)
        fail_msg("accepted: %s", words);
    if (!strstr(err.text, part))
        fail_msg("%s: got '%s', wanted '%s'", words, err.text, part);
    CHECK(!strchr(err.text, '\n'));
}

static void check_json(const json_t *got, const char *want)
{
    json_t *w = json_loads(want, 0, NULL);
    CHECK(w != NULL);
    if (!json_equal(got, w))
        fail_msg("got %s, wanted %s", json_dumps(got, JSON_SORT_KEYS), want);
    json_decref(w);
}

TEST(memory_sizes_are_mebibytes_unless_they_say_otherwise)
{
    static const struct { const char *words; uint64_t bytes; } cases[] = {
        { "", 128ull << 20 }, { "-m 512", 512ull << 20 }, { "-m 2G", 2ull << 30 },
        { "-m size=1.5G", 1536ull << 20 }, { "-m 16385k", 16388ull << 10 },
        { "-m 4T", 4ull << 40 },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct config *c = parse(cases[i].words);
        CHECK_EQ(c->memory_bytes, cases[i].bytes);
        config_free(c);
    }
    check_refused("-m 0", "-m 0: the size must be from 8M to 4T");
    check_refused("-m 5T", "the size must be");
    check_refused("-m lots", "'lots' is not a size");
    check_refused("-m -1", "not a size");
    check_refused("-m 99999999999999999999", "the size must be");
    check_refused("-m 512,slots=2", "unknown option 'slots'");
    check_refused("-m", "-m needs a value");
    check_refused("-m 1G -m 1G", "given twice");
}

TEST(smp_topology_is_completed_as_qemu_does)
{
    static const struct { const char *words; unsigned cpus, sockets, cores, threads; } cases[] = {
        { "", 1, 1, 1, 1 },
        { "-smp 4", 4, 1, 4, 1 },
        { "-smp cpus=8,sockets=2", 8, 2, 4, 1 },
        { "-smp 8,cores=2", 8, 4, 2, 1 },
        { "-smp 8,sockets=2,cores=2", 8, 2, 2, 2 },
        { "-smp sockets=2,cores=3,threads=2", 12, 2, 3, 2 },
        { "-smp 6,maxcpus=6", 6, 1, 6, 1 },
        { "-smp maxcpus=4", 4, 1, 4, 1 },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct config *c = parse(cases[i].words);
        CHECK_EQ(c->smp.cpus, cases[i].cpus);
        CHECK_EQ(c->smp.sockets, cases[i].sockets);
        CHECK_EQ(c->smp.cores, cases[i].cores);
        CHECK_EQ(c->smp.threads, cases[i].threads);
        config_free(c);
    }
    check_refused("-smp 0", "-smp 0: 'cpus' must be from 1 to 240");
    check_refused("-smp x", "'cpus' must be a number");
    check_refused("-smp 7,cores=2", "7 CPUs cannot be 3 sockets of 2 cores of 1 threads");
    check_refused("-smp 4,maxcpus=8", "'maxcpus' must equal 'cpus'");
    check_refused("-smp sockets=240,cores=240,threads=240", "at most 240");
    check_refused("-smp 4,dies=2", "unknown option 'dies'");
}

TEST(a_device_goes_where_rid_says_and_its_disk_along)
{
    struct config *c = parse(
        "-process id=disk0 -process id=net0"
        " -blockdev driver=file,node-name=f0,filename=a -blockdev driver=qcow2,node-name=d0,file=f0"
        " -device lsi53c895a,id=lsi0,rid=disk0,addr=4 -device scsi-hd,drive=d0,bus=lsi0.0,scsi-id=1");

    CHECK_EQ(c->ndevices, 2);
    CHECK_EQ(c->devices[0].place, 0);
    CHECK_EQ(c->devices[1].place, 0);
    CHECK_EQ(c->nodes[0].place, 0);
    CHECK_EQ(c->nodes[1].place, 0);
    CHECK(c->processes[0].has_blocks && !c->processes[1].has_blocks);
    check_json(c->devices[0].options, "{\"driver\":\"lsi53c895a\",\"id\":\"lsi0\"}");
    check_json(c->devices[0].proxy, "{\"driver\":\"pci-proxy-dev\",\"id\":\"lsi0\",\"addr\":\"4\"}");
    CHECK(c->devices[1].proxy == NULL);
    config_free(c);
}

TEST(without_rid_everything_is_in_the_cpu_process)
{
    struct config *c = parse(
        "-blockdev {\"driver\":\"qcow2\",\"node-name\":\"d0\",\"file\":{\"driver\":\"file\","
        "\"filename\":\"x\"}} -device lsi53c895a,id=lsi0 -device scsi-hd,drive=d0,bus=lsi0.0");
    CHECK_EQ(c->devices[0].place, IN_CPU_PROCESS);
    CHECK_EQ(c->devices[1].place, IN_CPU_PROCESS);
    CHECK_EQ(c->nodes[0].place, IN_CPU_PROCESS);
    CHECK(c->devices[0].proxy == NULL);
    config_free(c);
}

TEST(a_disk_without_bus_follows_the_first_adapter)
{
    struct config *c = parse("-process disk0 -device lsi53c895a,rid=disk0"
                             " -drive file=a,format=raw,if=scsi -drive b,format=raw,if=none,id=x"
                             " -device scsi-cd,drive=x");
    CHECK_EQ(c->ndevices, 3);
    CHECK_STR(c->devices[0].id, "disk0-dev0");
    for (int i = 0; i < 3; i++)
        CHECK_EQ(c->devices[i].place, 0);
    CHECK_EQ(c->nodes[0].place, 0);
    CHECK_EQ(c->nodes[1].place, 0);
    /* What -drive implies comes last, as in QEMU. */
    check_json(c->devices[2].options, "{\"driver\":\"scsi-hd\",\"drive\":\"drive0\"}");
    config_free(c);
}

TEST(drive_is_short_for_blockdev)
{
    struct config *c = parse("-drive if=none,file=a,format=qcow2,id=hd,cache=none,readonly=on,"
                             "discard=unmap");
    check_json(c->nodes[0].options,
               "{\"driver\":\"qcow2\",\"node-name\":\"hd\",\"read-only\":true,\"discard\":\"unmap\","
               "\"cache\":{\"direct\":true,\"no-flush\":false},\"file\":{\"driver\":\"file\","
               "\"filename\":\"a\",\"read-only\":true,\"discard\":\"unmap\","
               "\"cache\":{\"direct\":true,\"no-flush\":false}}}");
    config_free(c);
    check_refused("-drive file=a", "'format' is missing");
    check_refused("-drive format=raw", "'file' is missing");
    check_refused("-drive file=a,format=vmdk", "'format' cannot be 'vmdk'");
    check_refused("-drive file=a,format=raw,if=ide", "'if' cannot be 'ide'");
    check_refused("-drive file=a,format=raw,cache=maybe", "'cache' cannot be");
    check_refused("-drive file=a,format=raw,readonly=2", "'readonly' must be on or off");
    check_refused("-drive file=a,format=raw,bogus=2", "unknown option 'bogus'");
}

TEST(unused_nodes_go_to_the_only_device_process)
{
    struct config *c = parse("-process d -blockdev driver=file,node-name=f,filename=a"
                             " -blockdev driver=raw,node-name=r,file=f");
    CHECK_EQ(c->nodes[0].place, 0);
    CHECK_EQ(c->nodes[1].place, 0);
    config_free(c);
    c = parse("-process a -process b,blockdev=r -blockdev driver=file,node-name=f,filename=a"
              " -blockdev driver=raw,node-name=r,file=f");
    CHECK_EQ(c->nodes[0].place, 1);
    config_free(c);
    check_refused("-process a -process b -blockdev driver=file,node-name=f,filename=a",
                  "-blockdev driver=file,node-name=f,filename=a: no device uses this block node");
}

TEST(a_hand_started_process_is_reached_by_its_socket)
{
    struct config *c = parse("-device pci-proxy-dev,id=lsi0,socket=unix:/run/x,addr=5");
    CHECK_STR(c->devices[0].socket, "unix:/run/x");
    CHECK_EQ(c->devices[0].place, IN_CPU_PROCESS);
    check_json(c->devices[0].options, "{\"driver\":\"pci-proxy-dev\",\"id\":\"lsi0\",\"addr\":\"5\"}");
    config_free(c);
    check_refused("-device pci-proxy-dev,id=x", "'socket' is missing");
    check_refused("-device pci-proxy-dev,socket=3", "'id' is missing");
    check_refused("-device pci-proxy-dev,id=a,socket=3 -device scsi-hd,bus=a.0",
                  "belongs on the command line of the process");
}

TEST(placing_mistakes_are_named)
{
    static const char node[] = "-process a -process b -blockdev driver=null,node-name=n ";
    char words[512];

    check_refused("-device lsi53c895a,rid=nix", "-device lsi53c895a,rid=nix: there is no -process 'nix'");
    check_refused("-device scsi-hd,drive=nix", "there is no block node 'nix'");
    check_refused("-blockdev driver=raw,node-name=r,file=nix", "there is no block node 'nix' before");
    check_refused("-blockdev driver=raw,node-name=r,file=r", "there is no block node 'r' before");
    snprintf(words, sizeof words, "%s-device x,rid=a,drive=n -device y,rid=b,drive=n", node);
    check_refused(words, "'n' cannot be in two processes, a and b");
    snprintf(words, sizeof words, "%s-device lsi53c895a,rid=a,id=l -device scsi-hd,bus=l.0,rid=b,drive=n",
             node);
    check_refused(words, "its bus is in a, not in b");
    check_refused("-process a,blockdev=nix", "-process a,blockdev=nix: there is no block node 'nix'");
    check_refused("-process a,blockdev=:", "node names with colons between");
}

TEST(ids_are_unique_and_well_formed)
{
    check_refused("-device x,id=a -device y,id=a", "-device y,id=a: the id 'a' is used twice");
    check_refused("-process a -process a", "used twice");
    check_refused("-chardev null,id=a -chardev null,id=a", "used twice");
    check_refused("-blockdev driver=file,node-name=n,filename=x -drive x,format=raw,id=n",
                  "the node name 'n' is used twice");
    check_refused("-blockdev {\"driver\":\"raw\",\"node-name\":\"n\",\"file\":{\"driver\":\"file\","
                  "\"node-name\":\"m\",\"filename\":\"x\"}} -blockdev driver=file,node-name=m,filename=x",
                  "the node name 'm' is used twice");
    check_refused("-device x,id=1a", "'1a' is not an id");
    check_refused("-device x,id=a/b", "is not an id");
    check_refused("-process id=a:b", "is not an id");
    check_refused("-process sandbox=off", "'id' is missing");
    check_refused("-device id=a", "'driver' is missing");
    check_refused("-device {\"driver\":1}", "'driver' must be a string");
    check_refused("-device {", "bad JSON");
    check_refused("-blockdev driver=file", "'node-name' is missing");
    check_refused("-blockdev node-name=n", "'driver' is missing");
}

TEST(serial_ports_and_chardevs)
{
    struct config *c = parse("-chardev socket,id=s,path=/x,server=on -serial chardev:s -serial none"
                             " -serial file:out -serial unix:/y,server=on,wait=off");
    CHECK_EQ(c->nserials, 4);
    CHECK_EQ(c->serials[0], 0);
    CHECK_EQ(c->serials[1], -1);
    check_json(c->chardevs[0].options,
               "{\"backend\":\"socket\",\"path\":\"/x\",\"server\":\"on\"}");
    check_json(c->chardevs[1].options, "{\"backend\":\"file\",\"path\":\"out\"}");
    check_json(c->chardevs[2].options, "{\"backend\":\"socket\",\"path\":\"/y\",\"server\":\"on\","
                                       "\"wait\":\"off\"}");
    config_free(c);

    c = parse("-nographic");
    CHECK_EQ(c->nserials, 1);
    check_json(c->chardevs[0].options, "{\"backend\":\"stdio\",\"mux\":\"on\"}");
    config_free(c);
    c = parse("-nographic -nodefaults");
    CHECK_EQ(c->nserials, 0);
    config_free(c);

    check_refused("-serial bogus", "-serial bogus: the serial port can be");
    check_refused("-serial chardev:nix", "there is no chardev 'nix'");
    check_refused("-chardev spice,id=x", "no character back-end 'spice'");
    check_refused("-chardev null,id=x", "nothing uses this chardev");
    check_refused("-chardev null,id=x -serial chardev:x -serial chardev:x", "in use already");
    check_refused("-serial stdio -qmp stdio", "stdio can be used only once");
    check_refused("-serial null -serial null -serial null -serial null -serial null", "only 4");
    check_refused("-serial file:", "path is missing");
}

TEST(monitors_take_qemus_texts)
{
    struct config *c = parse("-qmp unix:/a,server=on,wait=off -qmp unix:/b,server");
    CHECK_EQ(c->nmonitors, 2);
    CHECK(!c->monitors[0].wait && c->monitors[1].wait);
    config_free(c);
    check_refused("-qmp tcp:x", "-qmp tcp:x: 'tcp:x' is neither");
    check_refused("-qmp unix:/a,server -qmp unix:/a,server", "used twice");
}

TEST(memory_objects_are_checked)
{
    struct config *c = parse("-object memory-backend-memfd,id=m,size=1G,hugetlb=on,hugetlbsize=2M"
                             " -machine q35,memory-backend=m,accel=kvm");
    CHECK_EQ(c->memory_bytes, 1ull << 30);
    CHECK_STR(c->memory_backend, "m");
    config_free(c);
    check_refused("-machine memory-backend=m", "there is no -object 'm'");
    check_refused("-object memory-backend-memfd,id=m,size=1G -machine memory-backend=m -m 2G",
                  "its size differs from that of -m");
    check_refused("-object memory-backend-memfd,id=m", "'size' is missing");
    check_refused("-object memory-backend-memfd,id=m,size=1G,share=off", "'share' must be on");
    check_refused("-object memory-backend-memfd,id=m,size=1G,hugetlbsize=2M", "needs hugetlb=on");
    check_refused("-object memory-backend-file,id=m,size=1G", "'mem-path' is missing");
    check_refused("-object secret,id=m", "there is no object 'secret'");
    check_refused("-object memory-backend-ram,id=m,size=1G,policy=bind", "unknown option 'policy'");
}

TEST(other_options)
{
    struct config *c = parse("--name=guest1 -S -no-reboot -action shutdown=pause,panic=shutdown"
                             " -display none -net none -enable-kvm -cpu host -append x");
    CHECK_STR(c->name, "guest1");
    CHECK(c->stopped && c->reboot_shuts_down && c->shutdown_pauses && c->panic_shuts_down);
    CHECK_STR(c->cpu_model, "host");
    config_free(c);
    check_refused("-bogus", "unknown option '-bogus'");
    check_refused("disk.img", "'disk.img' is no option");
    check_refused("-machine microvm", "there is no machine 'microvm'");
    check_refused("-machine q35,accel=tcg", "there is no accelerator 'tcg'");
    check_refused("-accel tcg", "only kvm");
    check_refused("-cpu qemu64", "no CPU model 'qemu64' here, only host and max");
    check_refused("-display gtk", "only 'none'");
    check_refused("-uuid 1234", "not a UUID");
    check_refused("-daemonize", "unknown option");
    check_refused("-sandbox maybe", "-sandbox");
    check_refused("-action panic=explode", "'panic' must be none or shutdown");
    check_refused("-kernel", "-kernel needs a value");
}

TEST(process_options)
{
    struct config *c = parse("-process id=a,binary=/x,sandbox=off -process b,sandbox.refused=warn,"
                             "sandbox.seccomp=off");
    CHECK_STR(c->processes[0].binary, "/x");
    CHECK_STR(c->processes[0].sandbox, "off");
    CHECK_HAS(c->processes[1].sandbox, "on,");
    CHECK_HAS(c->processes[1].sandbox, ",refused=warn");
    CHECK_HAS(c->processes[1].sandbox, ",seccomp=off");
    config_free(c);
    check_refused("-process a,bogus=1", "unknown option 'bogus'");
    check_refused("-process a,sandbox=perhaps", "-process a,sandbox=perhaps");
    check_refused("-process {\"id\":\"a\",\"sandbox\":{\"uid\":\"1,2\"}}", "bad value of 'sandbox.uid'");
}

TEST(without_a_kernel_there_is_nothing_to_run)
{
    struct config *c;
    struct error err;

    CHECK_EQ(config_parse(1, (const char *const[]){ "bulkhead", NULL }, &c, &err), -EINVAL);
    CHECK_HAS(err.text, "-kernel is missing");
    CHECK_EQ(config_parse(3, (const char *const[]){ "bulkhead", "-append", "x", NULL }, &c, &err),
             -EINVAL);
    CHECK_HAS(err.text, "-append needs -kernel");
}

TEST(help_wants_no_kernel)
{
    static const struct { const char *words[3]; enum config_action action; } cases[] = {
        { { "-h" }, ACTION_HELP }, { { "--help" }, ACTION_HELP }, { { "-version" }, ACTION_VERSION },
        { { "-device", "help" }, ACTION_DEVICE_LIST }, { { "-device", "?" }, ACTION_DEVICE_LIST },
        { { "-device", "lsi53c895a,help" }, ACTION_DEVICE_PROPS },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct config *c;
        struct error err;
        const char *argv[] = { "bulkhead", cases[i].words[0], cases[i].words[1], NULL };
        CHECK_EQ(config_parse(argv[2] ? 3 : 2, argv, &c, &err), 0);
        CHECK_EQ(c->action, cases[i].action);
        if (c->action == ACTION_DEVICE_PROPS)
            CHECK_STR(c->help_class, "lsi53c895a");
        config_free(c);
    }
}

TEST_MAIN
