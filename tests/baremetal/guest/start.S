/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entry by multiboot (0.6.96) or PVH: 32-bit protected mode, paging off. EBX holds the boot
 * information's address in both; EAX the multiboot magic. Goes to long mode and calls guest_main.
 */
#define MB_MAGIC 0x1badb002
#define MB_FLAGS 0x00000003             /* align modules, give memory map */

        .section .boot, "ax"
        .code32
        .align 4
multiboot_header:
        .long MB_MAGIC, MB_FLAGS, -(MB_MAGIC + MB_FLAGS)

        .global start32
start32:
        cli
        movl %eax, boot_magic
        movl %ebx, boot_info
        movl $stack_top, %esp

        /* Identity map of 4 GiB in 2 MiB pages: one PML4 entry, four page directories. */
        movl $pml4, %edi
        movl $pdpt + 3, (%edi)
        movl $pdpt, %edi
        movl $pd + 3, %eax
        movl $4, %ecx
1:      movl %eax, (%edi)
        addl $0x1000, %eax
        addl $8, %edi
        loop 1b
        movl $pd, %edi
        movl $0x83, %eax
        movl $2048, %ecx
2:      movl %eax, (%edi)
        addl $0x200000, %eax
        addl $8, %edi
        loop 2b

        call enter_long
        lgdt gdt64_ptr
        ljmp $8, $start64

/* Switches paging on; used by every processor. */
        .global enter_long
enter_long:
        movl %cr4, %eax
        orl $0x20, %eax
        movl %eax, %cr4
        movl $pml4, %eax
        movl %eax, %cr3
        movl $0xc0000080, %ecx
        rdmsr
        orl $0x100, %eax
        wrmsr
        movl %cr0, %eax
        orl $0x80000001, %eax
        movl %eax, %cr0
        ret

        .code64
start64:
        movl $16, %eax
        movl %eax, %ds
        movl %eax, %es
        movl %eax, %ss
        xorl %eax, %eax
        movl %eax, %fs
        movl %eax, %gs
        movq $stack_top, %rsp
        movl boot_magic, %edi
        movl boot_info, %esi
        call guest_main
        cli
3:      hlt
        jmp 3b

/* Other processors: real-mode code, copied to 0x8000 by smp_start. */
        .section .rodata
        .code16
        .global ap_code, ap_code_end
ap_code:
        cli
        xorw %ax, %ax
        movw %ax, %ds
        lgdtl 0x8000 + (ap_gdt_ptr - ap_code)
        movl %cr0, %eax
        orl $1, %eax
        movl %eax, %cr0
        ljmpl $24, $ap32
        .align 8
ap_gdt_ptr:
        .word gdt64_end - gdt64 - 1
        .long gdt64
ap_code_end:

        .text
        .code32
ap32:
        movw $16, %ax
        movw %ax, %ds
        movw %ax, %ss
        movl $1, %eax
        lock xaddl %eax, ap_next
        movl %eax, %ebp
        incl %eax
        shll $12, %eax
        addl $ap_stacks, %eax
        movl %eax, %esp
        call enter_long
        ljmp $8, $ap64
        .code64
ap64:
        movl $16, %eax
        movl %eax, %ds
        movl %eax, %es
        movl %eax, %ss
        movl %ebp, %edi
        call ap_main
4:      cli
        hlt
        jmp 4b

/* Interrupt stubs: vector number on the stack, then one common path. */
        .macro stub n
        .if !(\n == 8 || (\n >= 10 && \n <= 14) || \n == 17 || \n == 21)
        pushq $0
        .endif
        pushq $\n
        jmp isr_common
        .endm
        .align 16
        .global isr_stubs
isr_stubs:
        .set n, 0
        .rept 256
        .align 16
        stub n
        .set n, n + 1
        .endr

isr_common:
        pushq %rax
        pushq %rcx
        pushq %rdx
        pushq %rsi
        pushq %rdi
        pushq %r8
        pushq %r9
        pushq %r10
        pushq %r11
        movq 72(%rsp), %rdi             /* vector */
        movq 80(%rsp), %rsi             /* error code */
        movq 88(%rsp), %rdx             /* rip */
        cld
        call isr
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

        .data
        .align 16
gdt64:  .quad 0
        .quad 0x00af9a000000ffff        /* 8: 64-bit code */
        .quad 0x00cf92000000ffff        /* 16: data */
        .quad 0x00cf9a000000ffff        /* 24: 32-bit code */
gdt64_end:
gdt64_ptr:
        .word gdt64_end - gdt64 - 1
        .long gdt64, 0
        .global boot_magic, boot_info
boot_magic: .long 0
boot_info:  .long 0
ap_next:    .long 0

        .bss
        .align 4096
pml4:   .skip 4096
pdpt:   .skip 4096
pd:     .skip 4 * 4096
        .skip 32768
stack_top:
        .skip 64
        .align 4096
ap_stacks: .skip 64 * 4096

        .section .note.pvh, "a", @note
        .align 4
        .long 4, 4, 18                  /* XEN_ELFNOTE_PHYS32_ENTRY */
        .asciz "Xen"
        .long start32

        .section .note.GNU-stack, "", @progbits
