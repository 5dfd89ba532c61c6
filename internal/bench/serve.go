package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// serveVerb as the first argument makes this program a file server.
const serveVerb = "serve"

// serveWhole is up to which length a file is sent with its header.
const serveWhole = 64 << 10

// startServer serves a folder's files from a process of its own, so that its work
// is on no side's bill, each answer after so long. stop gives what CPU it took.
func (b *bench) startServer(dir string, delay time.Duration) (url string, stop func() time.Duration, err error) {
	cmd := exec.Command(b.self, serveVerb, "-dir", dir, "-delay", delay.String())
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() time.Duration {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
		return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		stop()
		return "", nil, fmt.Errorf("file server: %w", err)
	}
	return strings.TrimSpace(line), stop, nil
}

// serve is the file server: HTTP/1.1 with connections kept, GET of whole files,
// and as little else as possible, so that clients are measured and not a server.
func serve(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet(serveVerb, flag.ContinueOnError)
	dir := flags.String("dir", "", "folder")
	delay := flags.Duration("delay", 0, "before each answer")
	if err := flags.Parse(args); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { listener.Close() })()
	fmt.Println("http://" + listener.Addr().String())
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			// A client that goes away is no fault.
			if err := serveConn(conn, *dir, *delay); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
				fmt.Fprintln(os.Stderr, "bench: file server:", err)
			}
		}()
	}
}

func serveConn(conn net.Conn, dir string, delay time.Duration) error {
	in := bufio.NewReader(conn)
	var buf []byte
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		name, _, ok := bytes.Cut(line, []byte(" HTTP/1.1"))
		name, ok2 := bytes.CutPrefix(name, []byte("GET /"))
		if !ok || !ok2 || !filepath.IsLocal(string(name)) {
			return fmt.Errorf("request %.200q", line)
		}
		file := filepath.Join(dir, string(name))
		for len(bytes.TrimSpace(line)) > 0 {
			if line, err = in.ReadSlice('\n'); err != nil {
				return err
			}
		}
		time.Sleep(delay)
		if buf, err = sendFile(conn, file, buf); err != nil {
			return err
		}
	}
}

// sendFile answers with a file, a short one in one piece with the header. buf is
// used again.
func sendFile(conn net.Conn, name string, buf []byte) ([]byte, error) {
	f, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		_, err := io.WriteString(conn, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
		return buf, err
	}
	if err != nil {
		return buf, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return buf, err
	}
	size := info.Size()
	buf = fmt.Appendf(buf[:0], "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n", size)
	head := len(buf)
	if size > serveWhole {
		if _, err := conn.Write(buf); err != nil {
			return buf, err
		}
		_, err := io.CopyN(conn, f, size)
		return buf, err
	}
	if cap(buf) < head+serveWhole {
		buf = append(make([]byte, 0, head+serveWhole), buf...)
	}
	buf = buf[:head+int(size)]
	if _, err := io.ReadFull(f, buf[head:]); err != nil {
		return buf, err
	}
	_, err = conn.Write(buf)
	return buf, err
}
