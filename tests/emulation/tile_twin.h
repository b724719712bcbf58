/* tile_twin.h - emulated twins of the PTX wrappers of kernels/engine/tile.cuh; the contracts are there.
 * Fragment layouts follow the PTX ISA text.
 */
#ifndef FLAT_EMULATION_TILE_TWIN_H
#define FLAT_EMULATION_TILE_TWIN_H

namespace emu {

void mma_m16n8k16_finish(collective *group);
void async_copy_issue(void *shared, const void *global, bool valid);
void async_copy_commit();
void async_copy_wait(int newest);
/* Tells the checker of a read that its instrumentation does not see. */
void check_read(const void *pointer, size_t bytes);

template <int TILES, bool TRANSPOSED> EMU_INLINE void ldmatrix(uint32_t *result, const void *row, int line)
{
    if ((uintptr_t)row & 15)
        fault("ldmatrix line %d: the row address is not 16-byte aligned", line);
    if (!is_shared(row))
        fault("ldmatrix line %d: the row address is not in shared memory", line);
    collective *group = collective_meet(0xffffffffu, OPERATION_LDMATRIX + TILES * 2 + TRANSPOSED, &row, sizeof row,
                                        nullptr, "ldmatrix", line);
    const unsigned across = view.lane / 4, pair = view.lane % 4 * 2;
    for (unsigned tile = 0; tile < TILES; tile++) {
        uint16_t element[2];
        for (unsigned i = 0; i < 2; i++) {
            const unsigned r = TRANSPOSED ? pair + i : across, c = TRANSPOSED ? across : pair + i;
            const unsigned char *start;
            memcpy(&start, group->slot[tile * 8 + r], sizeof start);
            check_read(start + 2 * c, 2);
            memcpy(&element[i], start + 2 * c, 2);
        }
        result[tile] = element[0] | (uint32_t)element[1] << 16;
    }
    collective_leave(group);
}

} // namespace emu

EMU_INLINE void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                             int line = __builtin_LINE())
{
    uint32_t fragments[10];
    memcpy(fragments, a, 16);
    memcpy(fragments + 4, b, 8);
    memcpy(fragments + 6, d, 16);
    emu::collective *group = emu::collective_meet(0xffffffffu, emu::OPERATION_MMA, fragments, sizeof fragments,
                                                  emu::mma_m16n8k16_finish, "mma_m16n8k16", line);
    memcpy(d, group->slot[emu::view.lane] + 24, 16);
    emu::collective_leave(group);
}

EMU_INLINE void ldmatrix_x2(uint32_t (&r)[2], const void *row, int line = __builtin_LINE())
{
    emu::ldmatrix<2, false>(r, row, line);
}

EMU_INLINE void ldmatrix_x2_trans(uint32_t (&r)[2], const void *row, int line = __builtin_LINE())
{
    emu::ldmatrix<2, true>(r, row, line);
}

EMU_INLINE void ldmatrix_x4(uint32_t (&r)[4], const void *row, int line = __builtin_LINE())
{
    emu::ldmatrix<4, false>(r, row, line);
}

EMU_INLINE void ldmatrix_x4_trans(uint32_t (&r)[4], const void *row, int line = __builtin_LINE())
{
    emu::ldmatrix<4, true>(r, row, line);
}

EMU_INLINE void async_copy_16(void *shared, const void *global, bool valid = true)
{
    emu::async_copy_issue(shared, global, valid);
}

EMU_INLINE void async_copy_commit()
{
    emu::async_copy_commit();
}

template <int NEWEST> EMU_INLINE void async_copy_wait()
{
    emu::async_copy_wait(NEWEST);
}

#endif
