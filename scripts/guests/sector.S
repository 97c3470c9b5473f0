# A whole guest in one boot sector: for tests of starting, stopping, exit reasons, logs and recovery that need a
# machine and no operating system. It writes to COM1 (115200 8N1), echoes what it receives there, and polls the ACPI
# power button, so that a polite stop works. ACPI registers are where SeaBIOS puts them on `pc` and `q35` (0x600).
#
# The byte at offset 509 is the mode; see SectorMode in sector.ts.
# Assemble: as --32 -o s.o sector.S && ld -m elf_i386 -Ttext 0x7c00 --oformat binary -o s.bin s.o
	.code16
	.set	COM, 0x3f8
	.set	PM1_STS, 0x600
	.set	PM1_EN, 0x602
	.set	PM1_CNT, 0x604
	.set	PVPANIC, 0x505
	.set	BUTTON, 0x100
	.globl	_start
_start:	ljmp	$0, $main
main:	xor	%ax, %ax
	mov	%ax, %ds
	mov	%ax, %ss
	mov	$0x7c00, %sp
	cld
	mov	$setup, %si		# pairs of port (low byte; all in page 3) and value
uart:	lodsw
	test	%ax, %ax
	jz	ready
	mov	$3, %dh
	mov	%al, %dl
	mov	%ah, %al
	out	%al, %dx
	jmp	uart
ready:	sti
	mov	$boot, %si
	call	print
	cmpb	$1, mode
	je	loop
	mov	$PM1_EN, %dx		# without this bit QEMU does not latch a press
	in	%dx, %ax
	or	$BUTTON, %ax
	out	%ax, %dx
loop:	cmpb	$4, mode
	jne	calm
	mov	$chat, %si
	call	print
	jmp	loop
calm:	hlt				# the timer: 18.2 times a second
	incw	ticks
echo:	mov	$COM+5, %dx
	in	%dx, %al
	test	$1, %al
	jz	press
	mov	$COM, %dx
	in	%dx, %al
	out	%al, %dx
	jmp	echo
press:	cmpb	$1, mode
	je	clock
	mov	$PM1_STS, %dx
	in	%dx, %ax
	test	$BUTTON>>8, %ah
	jz	clock
	mov	$pushed, %si
	call	print
	jmp	off
clock:	mov	ticks, %ax
	cwd
	mov	$18, %cx
	div	%cx
	test	%dx, %dx
	jnz	loop
	mov	$tick, %si
	call	print
	cmp	$2, %ax			# after two seconds: what the mode selects
	jb	loop
	mov	mode, %al
	cmp	$2, %al
	je	off
	cmp	$3, %al
	je	reset
	cmp	$5, %al
	je	fault
	cmp	$6, %al
	jne	loop
panic:	mov	$dying, %si
	call	print
	mov	$PVPANIC, %dx
	mov	$1, %al			# PVPANIC_PANICKED
	out	%al, %dx
	jmp	stay
off:	mov	$bye, %si
	call	print
	mov	$PM1_CNT, %dx
	mov	$0x2000, %ax		# SLP_EN, sleep type 0: S5
	out	%ax, %dx
stay:	hlt
	jmp	stay
reset:	mov	$again, %si
	call	print
	mov	$0xcf9, %dx
	mov	$6, %al
	out	%al, %dx
	jmp	stay
fault:	mov	$broken, %si
	call	print
	lidt	empty			# no handlers: the third fault resets the processor
	int3

# Prints GUEST-, the text at %si and a line end; keeps %ax.
print:	push	%ax
	push	%si
	mov	$guest, %si
	call	put
	pop	%si
	call	put
	mov	$end, %si
	call	put
	pop	%ax
	ret
put:	lodsb
	test	%al, %al
	jz	done
	mov	%al, %ah
	mov	$COM+5, %dx
full:	in	%dx, %al
	test	$0x20, %al
	jz	full
	mov	$COM, %dx
	mov	%ah, %al
	out	%al, %dx
	jmp	put
done:	ret

setup:	.byte	0xfb, 0x80, 0xf8, 1, 0xf9, 0, 0xfb, 3, 0xfa, 0xc7, 0, 0
guest:	.asciz	"GUEST-"
end:	.asciz	"\r\n"
boot:	.asciz	"BOOT"
tick:	.asciz	"TICK"
pushed:	.asciz	"BUTTON"
bye:	.asciz	"OFF"
again:	.asciz	"RESET"
broken:	.asciz	"FAULT"
dying:	.asciz	"PANIC"
chat:	.asciz	"CHAT 0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRST"
ticks:	.word	0
empty:	.word	0, 0, 0
	.org	509
mode:	.byte	0
	.word	0xaa55
