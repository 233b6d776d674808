/* SPDX-License-Identifier: Apache-2.0 */
/* The table of options, in the order in which -h shows them. */
#include "config.h"

#include "common/door.h"
#include "common/options.h"
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* An option whose argument is kept as it is. */
#define TAKE_TEXT(option, field)                                                \
    static int opt_##option(void *opaque, const char *arg, struct error *err)   \
    {                                                                           \
        struct config *c = opaque;                                              \
        if (!*arg)                                                              \
            return error_set(err, -EINVAL, "the value is empty");               \
        return set_copy(&c->field, arg, err);                                   \
    }
#define TAKE_FLAG(option, field)                                                \
    static int opt_##option(void *opaque, const char *arg, struct error *err)   \
    {                                                                           \
        struct config *c = opaque;                                              \
        c->field = true;                                                        \
        return 0;                                                               \
    }

TAKE_TEXT(kernel, kernel)
TAKE_TEXT(initrd, initrd)
TAKE_TEXT(pidfile, pidfile)
TAKE_TEXT(cpu_binary, cpu_binary)
TAKE_FLAG(mem_prealloc, mem_prealloc)
TAKE_FLAG(stopped, stopped)
TAKE_FLAG(no_reboot, reboot_shuts_down)
TAKE_FLAG(no_shutdown, shutdown_pauses)
TAKE_FLAG(nographic, nographic)
TAKE_FLAG(nodefaults, nodefaults)

/* Unlike other texts it may be empty. */
static int opt_append(void *opaque, const char *arg, struct error *err)
{
    struct config *c = opaque;
    return set_copy(&c->append, arg, err);
}

static int opt_sandbox(void *opaque, const char *arg, struct error *err)
{
    struct config *c = opaque;
    struct door_option option = { 0 };

    int r = door_option_parse(arg, &option, err);
    return r < 0 ? r : set_copy(&c->sandbox, arg, err);
}

/* What QEMU users write to say that they want none of it; there is none. */
static int opt_only_none(void *opaque, const char *arg, struct error *err)
{
    return !strcmp(arg, "none") ? 0 : error_set(err, -EINVAL, "only 'none' is possible here");
}

static int opt_nothing(void *opaque, const char *arg, struct error *err) { return 0; }

static int opt_help(void *opaque, const char *arg, struct error *err)
{
    ((struct config *)opaque)->action = ACTION_HELP;
    return 0;
}

static int opt_version(void *opaque, const char *arg, struct error *err)
{
    ((struct config *)opaque)->action = ACTION_VERSION;
    return 0;
}

static const struct option_spec specs[] = {
    { "h", "help", NULL, "this help", .take = opt_help },
    { "version", NULL, NULL, "name and version", .take = opt_version },

    { "kernel", NULL, "FILE", "bzImage, ELF with a PVH entry, or multiboot image", true, opt_kernel },
    { "initrd", NULL, "FILE", "the kernel's initial ram disk", true, opt_initrd },
    { "append", NULL, "TEXT", "the kernel's command line", true, opt_append },

    { "m", NULL, "[size=]SIZE", "memory, in MiB or with a suffix: 512, 2G (default 128)", true,
      opt_memory },
    { "smp", NULL, "[cpus=]N[,sockets=…][,cores=…][,threads=…]", "processors (default 1)", true,
      opt_smp },
    { "cpu", NULL, "host|max", "what the processor can do: what KVM offers", true, opt_cpu },
    { "machine", "M", "[type=]bulkhead[,memory-backend=ID]", "the machine", false, opt_machine },
    { "accel", NULL, "kvm", "the accelerator", false, opt_accel },
    { "enable-kvm", NULL, NULL, NULL, false, opt_nothing },
    { "object", NULL, "memory-backend-memfd,id=ID,size=SIZE[,…]",
      "guest memory: hugetlb=on, hugetlbsize=2M|1G, prealloc=on;\n"
      "memory-backend-file: mem-path=PATH", false, opt_object },
    { "mem-path", NULL, "PATH", "guest memory in a file, or in a folder of hugetlbfs", true,
      opt_mem_path },
    { "mem-prealloc", NULL, NULL, "touch all of it at the start", false, opt_mem_prealloc },

    { "process", NULL, "id=ID[,binary=FILE][,blockdev=NODE:…][,sandbox=…]",
      "start a device process of this name", false, opt_process },
    { "device", NULL, "DRIVER[,rid=PROCESS][,id=ID][,PROPERTY=VALUE…]",
      "a device, in that process, or without rid= in the CPU\n"
      "process; 'help' lists drivers, 'DRIVER,help' properties;\n"
      "pci-proxy-dev,id=ID,socket=FD|unix:PATH stands for device\n"
      "ID of a device process that runs already", false, opt_device },
    { "blockdev", NULL, "driver=…,node-name=NAME,…",
      "a disk image, or a format on top of one; also as JSON", false, opt_blockdev },
    { "drive", NULL, "file=FILE,format=raw|qcow2,if=none|scsi[,id=ID][,readonly=on][,cache=…]",
      "short for -blockdev; with if=scsi also for -device", false, opt_drive },

    { "serial", NULL, "stdio|mon:stdio|pty|file:PATH|unix:PATH[,server=on,wait=off]|chardev:ID",
      "a serial port", false, opt_serial },
    { "chardev", NULL, "BACKEND,id=ID[,…]", "null, stdio, file, pty or socket", false,
      opt_chardev },
    { "nographic", NULL, NULL, "the first serial port on standard input and output;\n"
      "Ctrl-A x ends", false, opt_nographic },
    { "qmp", NULL, "unix:PATH[,server=on][,wait=off]|stdio", "a monitor", false, opt_qmp },

    { "name", NULL, "NAME", "the machine's name", true, opt_name },
    { "uuid", NULL, "UUID", "the machine's id", true, opt_uuid },
    { "S", NULL, NULL, "do not start the processors; 'cont' does", false, opt_stopped },
    { "no-reboot", NULL, NULL, "a guest that reboots ends the machine", false, opt_no_reboot },
    { "no-shutdown", NULL, NULL, "a guest that powers off is left stopped", false,
      opt_no_shutdown },
    { "action", NULL, "reboot=reset|shutdown,shutdown=poweroff|pause,panic=none|shutdown",
      "the same, and what a guest's panic does", false, opt_action },
    { "pidfile", NULL, "FILE", "write the process id there", true, opt_pidfile },
    { "sandbox", NULL, DOOR_HELP, DOOR_HELP_TEXT, true, opt_sandbox },
    { "cpu-binary", NULL, "FILE", "the program of the CPU process", true, opt_cpu_binary },

    { "nodefaults", NULL, NULL, "nothing that was not asked for", false, opt_nodefaults },
    { "no-user-config", NULL, NULL, NULL, false, opt_nothing },
    { "display", NULL, "none", NULL, false, opt_only_none },
    { "vga", NULL, "none", NULL, false, opt_only_none },
    { "monitor", NULL, "none", NULL, false, opt_only_none },
    { "parallel", NULL, "none", NULL, false, opt_only_none },
    { "net", NULL, "none", NULL, false, opt_only_none },
    { "nic", NULL, "none", NULL, false, opt_only_none },
    { NULL },
};

static int refuse_positional(void *opaque, unsigned index, const char *value, struct error *err)
{
    return error_set(err, -EINVAL, "'%.80s' is no option; a disk image is given by -drive or "
                                   "-blockdev", value);
}

void config_help(void)
{
    options_help(
        "Usage: bulkhead -kernel FILE [option …]\n"
        "Runs a virtual machine on KVM whose devices live in processes of their own.\n"
        "\n"
        "A disk in a process of its own, the console on the terminal:\n"
        "  bulkhead -m 1G -smp 2 -nographic \\\n"
        "    -kernel vmlinuz -initrd initrd.img -append 'console=ttyS0 root=/dev/sda' \\\n"
        "    -process id=disk0 -device lsi53c895a,id=lsi0,rid=disk0 \\\n"
        "    -drive file=disk.qcow2,format=qcow2,if=none,id=hd0 \\\n"
        "    -device scsi-hd,drive=hd0,bus=lsi0.0\n"
        "\n"
        "The same controller in the CPU process: leave out -process and rid=.\n"
        "\n"
        "Options (QEMU's, as far as they are here):\n", specs);
}

int config_parse(int argc, const char *const *argv, struct config **ret_config, struct error *err)
{
    struct config *c = calloc(1, sizeof *c);
    if (!c)
        return error_oom(err);

    int r = options_parse(specs, argc, (char *const *)argv, refuse_positional, c, err);
    if (r == 0 && c->action == ACTION_RUN)
        r = config_check(c, err);
    if (r == 0 && c->action == ACTION_RUN)
        r = config_place(c, err);
    if (r < 0) {
        config_free(c);
        return r;
    }
    *ret_config = c;
    return 0;
}
