package interop

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

// clockTick is the unit of /proc/PID/stat, which Linux fixes for programs.
const clockTick = time.Second / 100

// CPU is the processor time that the server has taken so far: what a client
// leaves to it shows there, on a busy machine too.
func (s *Server) CPU() (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.process.Pid))
	if err != nil {
		return 0, fmt.Errorf("interop: %w", err)
	}
	// After the name in brackets, which may hold anything: proc(5), fields 14 and 15.
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("interop: /proc/%d/stat has %d fields", s.process.Pid, len(fields))
	}
	var sum time.Duration
	for _, field := range fields[11:13] {
		ticks, err := strconv.ParseInt(string(field), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("interop: /proc/%d/stat: %w", s.process.Pid, err)
		}
		sum += time.Duration(ticks) * clockTick
	}
	return sum, nil
}
