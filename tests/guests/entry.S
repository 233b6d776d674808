/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a guest begins: 32-bit protected mode without paging, by PVH (note) or Multiboot 1 (header);
 * eax and ebx say which. From there to long mode with the first 4 GiB mapped one to one, and to
 * guest_start. Other CPUs arrive at ap_trampoline, copied below 1 MiB, in real mode, and go the same
 * way to guest_ap.
 */
#define CR0_PG_PE       0x80000001
#define CR4_PAE         0x20
#define MSR_EFER        0xc0000080
#define EFER_LME        0x100
#define STACK_SIZE      16384
#define CPUS_MAX        256

#ifdef MULTIBOOT
    .section .multiboot, "a"
    .balign 4
multiboot_header:
    .long 0x1badb002
    .long 0x00000003                    /* page-aligned modules, memory map */
    .long -(0x1badb002 + 0x00000003)
#else
    .section .note.pvh, "a", @note
    .balign 4
    .long 4, 4, 18                      /* XEN_ELFNOTE_PHYS32_ENTRY */
    .asciz "Xen"
    .long entry32
#endif

    .section .text.entry, "ax"
    .code32
    .globl entry32
entry32:
    cli
    cld
    movl %eax, boot_magic
    movl %ebx, boot_info
    movl $stacks + STACK_SIZE, %esp

    /* Four page directories of 2 MiB pages; one directory pointer table; one root. */
    movl $page_directories, %edi
    movl $0x83, %eax
    movl $4 * 512, %ecx
1:  movl %eax, (%edi)
    movl $0, 4(%edi)
    addl $0x200000, %eax
    addl $8, %edi
    loop 1b
    movl $page_pointers, %edi
    movl $page_directories + 3, %eax
    movl $4, %ecx
1:  movl %eax, (%edi)
    addl $0x1000, %eax
    addl $8, %edi
    loop 1b
    movl $page_pointers + 3, page_root
    call to_long_mode
    ljmp $0x08, $entry64

to_long_mode:
    movl $CR4_PAE, %eax
    movl %eax, %cr4
    movl $page_root, %eax
    movl %eax, %cr3
    movl $MSR_EFER, %ecx
    rdmsr
    orl $EFER_LME, %eax
    wrmsr
    lgdt gdt_pointer
    movl $CR0_PG_PE, %eax
    movl %eax, %cr0
    ret

ap32:
    movw $0x10, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl $1, %eax
    lock xaddl %eax, ap_next
    cmpl $CPUS_MAX, %eax
    jae 1f
    movl %eax, %esi                     /* 1 is the first of them */
    incl %eax
    imull $STACK_SIZE, %eax, %eax
    leal stacks(%eax), %esp
    call to_long_mode
    ljmp $0x08, $ap64
1:  hlt
    jmp 1b

    .code64
entry64:
    call load_data_segments
    movl boot_magic, %edi
    movl boot_info, %esi
    call guest_start
1:  cli
    hlt
    jmp 1b

ap64:
    call load_data_segments
    movl %esi, %edi
    call guest_ap
1:  cli
    hlt
    jmp 1b

load_data_segments:
    movw $0x10, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    xorl %eax, %eax
    movw %ax, %fs
    movw %ax, %gs
    ret

    /* Real mode, at any page below 1 MiB: only cs is known. */
    .code16
    .globl ap_trampoline, ap_trampoline_end
ap_trampoline:
    cli
    cld
    movw %cs, %ax
    movw %ax, %ds
    lgdtl trampoline_gdt_pointer - ap_trampoline
    movl $1, %eax
    movl %eax, %cr0
    ljmpl $0x18, $ap32
    .balign 8
trampoline_gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt
ap_trampoline_end:

    /* An entry for each vector: exceptions have or have not an error code; guest_trap sees both alike. */
    .code64
    .section .text, "ax"
    .globl trap_entries
    .balign 16
trap_entries:
    .set vector, 0
    .rept 256
    .balign 16
    .if (vector == 8) || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21
    .else
    pushq $0
    .endif
    pushq $vector
    jmp trap_common
    .set vector, vector + 1
    .endr

trap_common:
    pushq %rax
    pushq %rcx
    pushq %rdx
    pushq %rsi
    pushq %rdi
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    pushq %rbp
    cld
    movq 80(%rsp), %rdi                 /* vector */
    movq 88(%rsp), %rsi                 /* error code */
    movq 96(%rsp), %rdx                 /* rip */
    movq %rsp, %rbp
    andq $-16, %rsp
    call guest_trap
    movq %rbp, %rsp
    popq %rbp
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rdi
    popq %rsi
    popq %rdx
    popq %rcx
    popq %rax
    addq $16, %rsp
    iretq

    .section .data
    .balign 8
gdt:
    .quad 0
    .quad 0x00af9b000000ffff            /* 08: 64-bit code */
    .quad 0x00cf93000000ffff            /* 10: data */
    .quad 0x00cf9b000000ffff            /* 18: 32-bit code */
gdt_end:
gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt
    .long 0
    .globl ap_next
    .balign 4
ap_next:
    .long 1
boot_magic:
    .long 0
boot_info:
    .long 0

    .section .bss
    .balign 4096
page_root:
    .skip 4096
page_pointers:
    .skip 4096
page_directories:
    .skip 4 * 4096
stacks:
    .skip CPUS_MAX * STACK_SIZE

    .section .note.GNU-stack, "", @progbits
