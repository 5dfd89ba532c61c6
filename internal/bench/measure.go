package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"syscall"
	"time"
)

// cost is what a run took.
type cost struct {
	cpu, wall time.Duration
	peak      int64         // bytes of memory, of the largest process
	size      int64         // bytes of what was made; 0: not measured
	server    time.Duration // CPU of the server meanwhile; 0: not measured
}

// measure runs commands one after another and adds up what they cost. Written
// pages of earlier runs are flushed first, so that they are not on this bill.
func measure(ctx context.Context, commands ...*exec.Cmd) (cost, error) {
	syscall.Sync()
	var sum cost
	for _, cmd := range commands {
		var diag bytes.Buffer
		cmd.Stderr = &diag
		begin := time.Now()
		if err := cmd.Start(); err != nil {
			return cost{}, err
		}
		stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
		err := cmd.Wait()
		stop()
		sum.wall += time.Since(begin)
		if err != nil {
			return cost{}, errors.Join(fmt.Errorf("%v: %w\n%s", cmd.Args, err, diag.String()), ctx.Err())
		}
		usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
		if !ok {
			return cost{}, fmt.Errorf("resource usage of a process: %w", errors.ErrUnsupported)
		}
		sum.cpu += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		sum.peak = max(sum.peak, usage.Maxrss<<10)
	}
	return sum, nil
}

// median takes the median of each figure.
func median(costs []cost) cost {
	if len(costs) == 0 {
		return cost{}
	}
	middle := func(figure func(cost) int64) int64 {
		var all []int64
		for _, c := range costs {
			all = append(all, figure(c))
		}
		slices.Sort(all)
		return all[len(all)/2]
	}
	return cost{
		cpu:  time.Duration(middle(func(c cost) int64 { return int64(c.cpu) })),
		wall: time.Duration(middle(func(c cost) int64 { return int64(c.wall) })),
		peak: middle(func(c cost) int64 { return c.peak }),
		size: middle(func(c cost) int64 { return c.size }),

		server: time.Duration(middle(func(c cost) int64 { return int64(c.server) })),
	}
}
