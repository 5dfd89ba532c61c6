package registriesconf

import (
	"errors"
	"fmt"
)

// maxFaults is how many faults of one file are told.
const maxFaults = 20

// faults collects what is wrong.
type faults struct {
	errs  []error
	count int
}

func (f *faults) add(err error) {
	if err == nil {
		return
	}
	if f.count++; len(f.errs) < maxFaults {
		f.errs = append(f.errs, err)
	}
}

func (f *faults) err() error {
	if more := f.count - len(f.errs); more > 0 {
		return errors.Join(append(f.errs, fmt.Errorf("and %d more", more))...)
	}
	return errors.Join(f.errs...)
}
