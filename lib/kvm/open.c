/* SPDX-License-Identifier: Apache-2.0 */
/* /dev/kvm: is it there, may we, can it do what we need; and what to do if not. */
#include "kvm/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>

static const struct {
    int cap;
    const char *name, *since;
} needed[] = {
    { KVM_CAP_IRQCHIP, "interrupt chips in the kernel", "2.6.20" },
    { KVM_CAP_USER_MEMORY, "memory slots", "2.6.25" },
    { KVM_CAP_SET_TSS_ADDR, "a TSS address", "2.6.25" },
    { KVM_CAP_EXT_CPUID, "CPUID tables", "2.6.26" },
    { KVM_CAP_MP_STATE, "the multiprocessing state", "2.6.27" },
    { KVM_CAP_PIT2, "a timer in the kernel", "2.6.31" },
    { KVM_CAP_PIT_STATE2, "the timer's state", "2.6.32" },
    { KVM_CAP_IRQ_ROUTING, "interrupt routing", "2.6.30" },
    { KVM_CAP_IRQFD, "interrupts by eventfd", "2.6.32" },
    { KVM_CAP_IRQFD_RESAMPLE, "level interrupts by eventfd", "3.8" },
    { KVM_CAP_IOEVENTFD, "eventfds for stores", "2.6.32" },
    { KVM_CAP_SIGNAL_MSI, "message-signalled interrupts", "3.5" },
    { KVM_CAP_IMMEDIATE_EXIT, "immediate exits", "4.13" },
};

int kvm_call(int fd, unsigned long request, void *arg)
{
    int r;

    do
        r = ioctl(fd, request, arg);
    while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : r;
}

int kvm_check(int kvm_fd, struct error *err)
{
    int version = kvm_call(kvm_fd, KVM_GET_API_VERSION, NULL);

    if (version < 0)
        return error_set(err, -EINVAL, "cannot use KVM: /dev/kvm is not KVM's device file; make it "
                         "anew ('mknod /dev/kvm c 10 232', or restart udev)");
    if (version != KVM_API_VERSION)
        return error_set(err, -EINVAL, "cannot use KVM: the kernel speaks version %d of its "
                         "interface, and version %d is needed; use a newer kernel", version,
                         KVM_API_VERSION);
    for (size_t i = 0; i < ARRAY_SIZE(needed); i++)
        if (kvm_call(kvm_fd, KVM_CHECK_EXTENSION, (void *)(uintptr_t)needed[i].cap) <= 0)
            return error_set(err, -EINVAL, "cannot use KVM: this host's KVM lacks %s, which Linux has "
                             "since %s; use a newer kernel, or another host if this one emulates "
                             "KVM", needed[i].name, needed[i].since);
    return 0;
}

int kvm_open(int *ret_fd, struct error *err)
{
    AUTO_FD int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

    if (fd < 0 && errno == ENOENT)
        return error_set(err, -EINVAL, "cannot use KVM: there is no /dev/kvm; load its module "
                         "('modprobe kvm-intel' or 'modprobe kvm-amd'), or switch on virtualisation "
                         "in the firmware's set-up or in the surrounding virtual machine");
    if (fd < 0 && (errno == EACCES || errno == EPERM))
        return error_set(err, -EINVAL, "cannot use KVM: no permission for /dev/kvm; add the user to "
                         "group kvm ('adduser NAME kvm') and log in again");
    if (fd < 0 && (errno == ENODEV || errno == ENXIO))
        return error_set(err, -EINVAL, "cannot use KVM: /dev/kvm is there and KVM is not; load its "
                         "module ('modprobe kvm-intel' or 'modprobe kvm-amd')");
    if (fd < 0)
        return error_set(err, -errno, "cannot use KVM: cannot open /dev/kvm");

    int r = kvm_check(fd, err);
    if (r == 0)
        *ret_fd = TAKE_FD(fd);
    return r;
}

static unsigned capability(int kvm_fd, int cap, unsigned otherwise)
{
    int r = kvm_call(kvm_fd, KVM_CHECK_EXTENSION, (void *)(uintptr_t)cap);
    return r > 0 ? (unsigned)r : otherwise;
}

unsigned kvm_cpus_advised(int kvm_fd) { return capability(kvm_fd, KVM_CAP_NR_VCPUS, 4); }

unsigned kvm_cpus_max(int kvm_fd)
{
    return MIN(capability(kvm_fd, KVM_CAP_MAX_VCPUS, kvm_cpus_advised(kvm_fd)),
               (unsigned)VM_CPUS_MAX);
}
