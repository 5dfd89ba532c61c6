package disk

// maxTable is how many bytes a table of blocks may have: more is no disk that
// systems boot from.
const maxTable = 64 << 20

// nextOf is next of a disk of size bytes in blocks, which groups of blocks can lack
// altogether.
func nextOf(off, size, block, group int64, has func(group int64) bool, used func(off int64) (bool, error)) (start, end int64, err error) {
	const most = 1 << 12 // blocks or groups that are looked at
	start = -1
	pos := off / block * block
	for i := 0; pos < size && i < most; i++ {
		ok, step := has(pos/group), block
		if !ok {
			step = group - pos%group
		} else if ok, err = used(pos); err != nil {
			return 0, 0, err
		}
		switch {
		case ok && start < 0:
			start = max(pos, off)
		case !ok && start >= 0:
			return start, pos, nil
		}
		pos += min(step, size-pos)
	}
	if start < 0 {
		start = max(pos, off)
	}
	return min(start, size), pos, nil
}
