#include "textflag.h"

// The permutation P of RFC 9106 is the round of BLAKE2b with the additions
// replaced by a + b + 2*lo(a)*lo(b). Here a 256-bit register holds one row of
// its 4x4 matrix of words (the rows of a block), or half a row of two matrices
// at once (its columns). Two register sets are always worked on side by side,
// so that the long chain of one fills the waiting time of the other.

// Byte shuffles that rotate each word right by 24 and by 16 bits.
DATA rotate24<>+0x00(SB)/8, $0x0201000706050403
DATA rotate24<>+0x08(SB)/8, $0x0a09080f0e0d0c0b
DATA rotate24<>+0x10(SB)/8, $0x0201000706050403
DATA rotate24<>+0x18(SB)/8, $0x0a09080f0e0d0c0b
GLOBL rotate24<>(SB), RODATA|NOPTR, $32

DATA rotate16<>+0x00(SB)/8, $0x0100070605040302
DATA rotate16<>+0x08(SB)/8, $0x09080f0e0d0c0b0a
DATA rotate16<>+0x10(SB)/8, $0x0100070605040302
DATA rotate16<>+0x18(SB)/8, $0x09080f0e0d0c0b0a
GLOBL rotate16<>(SB), RODATA|NOPTR, $32

#define ROT24 Y14
#define ROT16 Y15

// a += b + 2*lo(a)*lo(b), in both sets.
#define MIX(a0, a1, b0, b1) \
	VPMULUDQ a0, b0, Y8; \
	VPMULUDQ a1, b1, Y9; \
	VPADDQ   b0, a0, a0; \
	VPADDQ   b1, a1, a1; \
	VPADDQ   Y8, Y8, Y8; \
	VPADDQ   Y9, Y9, Y9; \
	VPADDQ   Y8, a0, a0; \
	VPADDQ   Y9, a1, a1

// The function GB, in both sets.
#define GB(a0, a1, b0, b1, c0, c1, d0, d1) \
	MIX(a0, a1, b0, b1); \
	VPXOR   a0, d0, d0; \
	VPXOR   a1, d1, d1; \
	VPSHUFD $0xB1, d0, d0; \
	VPSHUFD $0xB1, d1, d1; \
	MIX(c0, c1, d0, d1); \
	VPXOR   c0, b0, b0; \
	VPXOR   c1, b1, b1; \
	VPSHUFB ROT24, b0, b0; \
	VPSHUFB ROT24, b1, b1; \
	MIX(a0, a1, b0, b1); \
	VPXOR   a0, d0, d0; \
	VPXOR   a1, d1, d1; \
	VPSHUFB ROT16, d0, d0; \
	VPSHUFB ROT16, d1, d1; \
	MIX(c0, c1, d0, d1); \
	VPXOR   c0, b0, b0; \
	VPXOR   c1, b1, b1; \
	VPADDQ  b0, b0, Y8; \
	VPADDQ  b1, b1, Y9; \
	VPSRLQ  $63, b0, b0; \
	VPSRLQ  $63, b1, b1; \
	VPXOR   Y8, b0, b0; \
	VPXOR   Y9, b1, b1

// load the register at off as x XOR y, and keep that in out too.
#define START(off, r) \
	VMOVDQU off(SI), r; \
	VPXOR   off(DX), r, r; \
	VMOVDQU r, off(DI)

// The same, with what out held before folded into what is kept there.
#define STARTXOR(off, r) \
	VMOVDQU off(SI), r; \
	VPXOR   off(DX), r, r; \
	VPXOR   off(DI), r, Y8; \
	VMOVDQU Y8, off(DI)

// XOR the register onto out.
#define FINISH(off, r) \
	VPXOR   off(DI), r, r; \
	VMOVDQU r, off(DI)

// func compressAVX2(out, x, y, z *block, xor bool)
TEXT ·compressAVX2(SB), NOSPLIT, $0-33
	MOVQ    out+0(FP), DI
	MOVQ    x+8(FP), SI
	MOVQ    y+16(FP), DX
	MOVQ    z+24(FP), BX
	MOVBLZX xor+32(FP), AX
	VMOVDQU rotate24<>(SB), ROT24
	VMOVDQU rotate16<>(SB), ROT16
	MOVQ    $4, CX

rows: // two rows of 128 bytes each time round
	TESTL AX, AX
	JNZ   fold
	START(0, Y0)
	START(32, Y1)
	START(64, Y2)
	START(96, Y3)
	START(128, Y4)
	START(160, Y5)
	START(192, Y6)
	START(224, Y7)
	JMP   permute

fold:
	STARTXOR(0, Y0)
	STARTXOR(32, Y1)
	STARTXOR(64, Y2)
	STARTXOR(96, Y3)
	STARTXOR(128, Y4)
	STARTXOR(160, Y5)
	STARTXOR(192, Y6)
	STARTXOR(224, Y7)

permute:
	GB(Y0, Y4, Y1, Y5, Y2, Y6, Y3, Y7)
	VPERMQ  $0x39, Y1, Y1
	VPERMQ  $0x39, Y5, Y5
	VPERMQ  $0x4E, Y2, Y2
	VPERMQ  $0x4E, Y6, Y6
	VPERMQ  $0x93, Y3, Y3
	VPERMQ  $0x93, Y7, Y7
	GB(Y0, Y4, Y1, Y5, Y2, Y6, Y3, Y7)
	VPERMQ  $0x93, Y1, Y1
	VPERMQ  $0x93, Y5, Y5
	VPERMQ  $0x4E, Y2, Y2
	VPERMQ  $0x4E, Y6, Y6
	VPERMQ  $0x39, Y3, Y3
	VPERMQ  $0x39, Y7, Y7
	VMOVDQU Y0, 0(BX)
	VMOVDQU Y1, 32(BX)
	VMOVDQU Y2, 64(BX)
	VMOVDQU Y3, 96(BX)
	VMOVDQU Y4, 128(BX)
	VMOVDQU Y5, 160(BX)
	VMOVDQU Y6, 192(BX)
	VMOVDQU Y7, 224(BX)
	ADDQ    $256, SI
	ADDQ    $256, DX
	ADDQ    $256, DI
	ADDQ    $256, BX
	DECQ    CX
	JNZ     rows

	SUBQ $1024, DI
	SUBQ $1024, BX
	MOVQ $4, CX

columns: // two columns of 16 bytes each time round: one in each register half
	VMOVDQU  0(BX), Y0
	VMOVDQU  128(BX), Y1
	VMOVDQU  256(BX), Y2
	VMOVDQU  384(BX), Y3
	VMOVDQU  512(BX), Y4
	VMOVDQU  640(BX), Y5
	VMOVDQU  768(BX), Y6
	VMOVDQU  896(BX), Y7
	GB(Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y7)
	// Turn row b by one word (Y10, Y11) and row d by three (Y12, Y13); turning
	// row c by two is using its registers the other way round.
	VPALIGNR $8, Y2, Y3, Y10
	VPALIGNR $8, Y3, Y2, Y11
	VPALIGNR $8, Y6, Y7, Y13
	VPALIGNR $8, Y7, Y6, Y12
	GB(Y0, Y1, Y10, Y11, Y5, Y4, Y12, Y13)
	VPALIGNR $8, Y11, Y10, Y2
	VPALIGNR $8, Y10, Y11, Y3
	VPALIGNR $8, Y12, Y13, Y6
	VPALIGNR $8, Y13, Y12, Y7
	FINISH(0, Y0)
	FINISH(128, Y1)
	FINISH(256, Y2)
	FINISH(384, Y3)
	FINISH(512, Y4)
	FINISH(640, Y5)
	FINISH(768, Y6)
	FINISH(896, Y7)
	ADDQ     $32, DI
	ADDQ     $32, BX
	DECQ     CX
	JNZ      columns
	VZEROUPPER
	RET

// func prefetch(b *block)
TEXT ·prefetch(SB), NOSPLIT, $0-8
	MOVQ       b+0(FP), AX
	PREFETCHT0 0(AX)
	PREFETCHT0 64(AX)
	PREFETCHT0 128(AX)
	PREFETCHT0 192(AX)
	PREFETCHT0 256(AX)
	PREFETCHT0 320(AX)
	PREFETCHT0 384(AX)
	PREFETCHT0 448(AX)
	PREFETCHT0 512(AX)
	PREFETCHT0 576(AX)
	PREFETCHT0 640(AX)
	PREFETCHT0 704(AX)
	PREFETCHT0 768(AX)
	PREFETCHT0 832(AX)
	PREFETCHT0 896(AX)
	PREFETCHT0 960(AX)
	RET
