package registryserver

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/okd-project/okd-streams/publish"
)

// Listen opens address, HOST:PORT, for [Server.Serve]; "" is a free port of
// 127.0.0.1. An address that is not loopback gives [io/fs.ErrPermission] unless
// [Options.Public] is set.
func (s *Server) Listen(ctx context.Context, address string) (net.Listener, error) {
	if address == "" {
		address = "127.0.0.1:0"
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, &publish.Error{Op: "listen", Target: address, Err: err}
	}
	if a, ok := l.Addr().(*net.TCPAddr); !s.opts.Public && (!ok || !a.IP.IsLoopback()) {
		return nil, &publish.Error{Op: "listen", Target: address, Err: errors.Join(errors.New("not a loopback address"), fs.ErrPermission, l.Close())}
	}
	return l, nil
}

// Serve answers on l until ctx ends. Requests that are running then are
// finished, for at most [Options.ShutdownTimeout]; those that are still running
// are cut off and [context.DeadlineExceeded] is returned. The listener and the
// server are closed.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	hs := &http.Server{
		Handler: s, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		ErrorLog:    slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
	}
	ended := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.shutdown)
		defer cancel()
		err := hs.Shutdown(grace)
		if err != nil {
			err = errors.Join(err, hs.Close())
		}
		ended <- err
	})
	err := hs.Serve(l)
	if stop() {
		// The listener failed; whoever is connected is let go.
		err = errors.Join(err, hs.Close())
	} else {
		err = <-ended
	}
	if err = errors.Join(err, s.Close()); err != nil {
		return &publish.Error{Op: "serve", Target: l.Addr().String(), Err: err}
	}
	return nil
}
