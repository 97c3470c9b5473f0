# A boot sector that writes the fw_cfg file opt/com.coreos/config to the serial console.
.code16
.globl _start
_start:
    ljmp $0, $1f
1:  xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw $0x7c00, %sp
    cld
    movw $0x19, %ax          # the directory: a count, then 64 bytes for each file
    call select
    call skip2
    call byte                # files, big-endian: the low half
    movb %al, %ch
    call byte
    movb %al, %cl
entry:
    pushw %cx
    call skip2               # size, its high half
    call byte
    movb %al, %bh
    call byte
    movb %al, %bl
    call byte                # selector
    movb %al, %ah
    pushw %ax
    call byte
    popw %cx
    movb %ch, %ah
    pushw %ax
    call skip2
    movw $0x8000, %di        # name
    movw $56, %cx
2:  call byte
    stosb
    loop 2b
    popw %ax
    movw $0x8000, %di
    movw $name, %si
    movw $22, %cx
    repe cmpsb
    je found
    popw %cx
    loop entry
    movw $none, %si
    movw $nonelen, %cx
3:  lodsb
    call put
    loop 3b
    jmp end
found:
    call select
    movw %bx, %cx
4:  call byte
    call put
    loop 4b
end:
    movb $'\n', %al
    call put
5:  hlt
    jmp 5b
select:
    movw $0x510, %dx
    outw %ax, %dx
    ret
skip2:
    call byte
byte:
    movw $0x511, %dx
    inb %dx, %al
    ret
put:
    pushw %ax
    movw $0x3fd, %dx
6:  inb %dx, %al
    testb $0x20, %al
    jz 6b
    popw %ax
    movw $0x3f8, %dx
    outb %al, %dx
    ret
name: .asciz "opt/com.coreos/config"
none: .ascii "no such file"
.set nonelen, . - none
