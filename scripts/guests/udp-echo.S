# A whole Linux program in a few hundred bytes: answers every datagram to UDP port 7777 with itself, over IPv4 and IPv6.
# busybox has no UDP server that could, and port mappings are UDP as well as TCP.
# Assemble: as --64 -o u.o udp-echo.S && ld -Ttext 0x400000 --oformat binary -o udp-echo u.o
	.set	BASE, 0x400000
	.set	SIZE, end - elf
	.globl	_start
elf:	.byte	0x7f
	.ascii	"ELF"
	.byte	2, 1, 1			# 64 bits, little endian, version 1
	.org	16
	.word	2, 62			# executable, x86-64
	.long	1
	.quad	_start, segment - elf, 0
	.long	0
	.word	64, 56, 1, 0, 0, 0
segment: .long	1, 5			# load, read and execute
	.quad	0, BASE, BASE, SIZE, SIZE, 0x1000

_start:	mov	$41, %eax		# socket(AF_INET6, SOCK_DGRAM, 0)
	mov	$10, %edi
	mov	$2, %esi
	xor	%edx, %edx
	syscall
	mov	%eax, %ebx
	mov	%eax, %edi
	mov	$49, %eax		# bind
	lea	any(%rip), %rsi
	mov	$28, %edx
	syscall
	sub	$0x10030, %rsp		# 64 KiB of datagram, 28 bytes of address, its length
next:	mov	$45, %eax		# recvfrom
	mov	%ebx, %edi
	mov	%rsp, %rsi
	mov	$0x10000, %edx
	xor	%r10d, %r10d
	lea	0x10000(%rsp), %r8
	lea	0x10020(%rsp), %r9
	movl	$28, (%r9)
	syscall
	test	%rax, %rax
	js	next
	mov	%rax, %rdx
	mov	$44, %eax		# sendto
	mov	%ebx, %edi
	mov	%rsp, %rsi
	xor	%r10d, %r10d
	lea	0x10000(%rsp), %r8
	mov	$28, %r9d
	syscall
	jmp	next
any:	.word	10			# [::]:7777
	.byte	7777 >> 8, 7777 & 255
	.long	0
	.quad	0, 0
	.long	0
end:
