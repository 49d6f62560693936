package lab

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"sync"
	"time"
)

// maxShown is how much of a body is looked at to print it; more is counted only.
const maxShown = 1 << 20

// Onward says where a request really goes that is for this process itself, and whether it is.
type Onward func(scheme, address string) (to string, ok bool)

// webReceiver answers every request with 204, but for those that go onward.
type webReceiver struct {
	door    *door
	printer *Printer
	server  *http.Server
	onward  Onward
	network *http.Transport // for what goes onward

	mu       sync.Mutex // guards that no request begins once ended is set
	ended    bool
	requests sync.WaitGroup
}

func newWebReceiver(ctx context.Context, printer *Printer, logger *slog.Logger, onward Onward) (*webReceiver, error) {
	d, err := openDoor(ctx)
	if err != nil {
		return nil, err
	}
	w := &webReceiver{door: d, printer: printer, onward: onward, network: &http.Transport{DisableCompression: true}}
	w.server = &http.Server{
		Handler: w, ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 1 << 20,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
		ErrorLog:    slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
	return w, nil
}

// connKey is the key of a request's connection in its context.
type connKey struct{}

// serve ends with an error in any case, and with the door shut there is only one.
func (w *webReceiver) serve() { _ = w.server.Serve(w.door) }

func (w *webReceiver) stop(ctx context.Context) {
	_ = w.server.Shutdown(ctx) // what is not answered in time is cut off
	w.door.shut()
	_ = w.server.Close()
	w.mu.Lock()
	w.ended = true
	w.mu.Unlock()
	w.requests.Wait()
	w.network.CloseIdleConnections()
}

// ServeHTTP reads a request whole, prints it and answers.
func (w *webReceiver) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	if w.ended {
		w.mu.Unlock()
		return
	}
	w.requests.Add(1)
	w.mu.Unlock()
	defer w.requests.Done()
	c, _ := r.Context().Value(connKey{}).(net.Conn)
	g, ok := guestOf(c)
	if !ok {
		return
	}
	from := g.caller()
	if to, ok := w.onward(from.scheme, from.address); ok {
		w.pass(rw, r, from, to)
		return
	}
	body, size, err := readSome(r.Body)
	if err != nil {
		return // the attempt was given up: there is nobody to answer, and it is made again
	}
	w.show(r, from, body, size)
	rw.WriteHeader(http.StatusNoContent)
}

// pass hands a request on as it is, and its answer back. It is shown when it was answered.
func (w *webReceiver) pass(rw http.ResponseWriter, r *http.Request, from caller, to string) {
	var seen beginning
	r.Body = io.NopCloser(io.TeeReader(r.Body, &seen))
	proxy := httputil.ReverseProxy{
		Transport: w.network, ErrorLog: w.server.ErrorLog,
		Rewrite: func(p *httputil.ProxyRequest) { p.Out.URL.Scheme, p.Out.URL.Host = "http", to },
	}
	proxy.ServeHTTP(rw, r)
	w.show(r, from, seen.bytes, seen.size)
}

// beginning keeps the first maxShown bytes of what is written to it, and counts all.
type beginning struct {
	bytes []byte
	size  int64
}

func (b *beginning) Write(p []byte) (int, error) {
	b.bytes = append(b.bytes, p[:min(len(p), maxShown-len(b.bytes))]...)
	b.size += int64(len(p))
	return len(p), nil
}

func (w *webReceiver) show(r *http.Request, from caller, body []byte, size int64) {
	w.printer.request(from.sink, Request{
		Method: r.Method, URL: from.scheme + "://" + r.Host + r.RequestURI, Header: r.Header, Body: body, Size: size,
	})
}

// readSome returns the beginning of what r has, and how much there was in all.
func readSome(r io.Reader) ([]byte, int64, error) {
	some, err := io.ReadAll(io.LimitReader(r, maxShown))
	if err != nil {
		return nil, 0, err
	}
	rest, err := io.Copy(io.Discard, r)
	return some, int64(len(some)) + rest, err
}
