package s3

import (
	"bytes"
	"fmt"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/event/codec"
)

// encoder writes the events of an object. Equal events make equal bytes.
type encoder struct {
	Content  string `json:"content"`
	Format   string `json:"format"`
	Compress string `json:"compress"`
}

func (e encoder) encode(events []*event.Event) ([]byte, error) {
	size := 0
	for _, ev := range events {
		size += ev.Size() + 256 // of names and quotes
	}
	body := make([]byte, 0, size)
	begin, between, end := "", "\n", "\n"
	if e.Format == formatJSON {
		begin, between, end = "[\n", ",\n", "\n]\n"
	}
	body = append(body, begin...)
	for i, ev := range events {
		if i > 0 {
			body = append(body, between...)
		}
		body = e.append(body, ev)
	}
	return e.shrink(append(body, end...))
}

func (e encoder) append(dst []byte, ev *event.Event) []byte {
	switch e.Content {
	case contentData:
		return codec.AppendDataLine(dst, ev)
	case contentRaw:
		return append(dst, ev.Data...)
	}
	return codec.EncodeJSON(dst, ev)
}

// shrink compresses a body. Writing to memory does not fail, but for a fault in the compressor.
func (e encoder) shrink(body []byte) ([]byte, error) {
	switch e.Compress {
	case compressGzip:
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		if _, err := w.Write(body); err != nil {
			return nil, fmt.Errorf("gzip: %w", err)
		}
		if err := w.Close(); err != nil {
			return nil, fmt.Errorf("gzip: %w", err)
		}
		return b.Bytes(), nil
	case compressZstd:
		w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true))
		if err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
		defer func() { _ = w.Close() }()
		return w.EncodeAll(body, nil), nil
	}
	return body, nil
}

// suffix ends the names of objects.
func (e encoder) suffix() string {
	suffix := "." + e.Format
	if e.Content == contentRaw {
		suffix = ".txt"
	}
	return suffix + map[string]string{compressNone: "", compressGzip: ".gz", compressZstd: ".zst"}[e.Compress]
}

// mediaType is of the bytes as they are stored: a compressed object stays compressed for whoever gets it.
func (e encoder) mediaType() string {
	switch {
	case e.Compress == compressGzip:
		return "application/gzip"
	case e.Compress == compressZstd:
		return "application/zstd"
	case e.Content == contentRaw:
		return "application/octet-stream"
	case e.Format == formatJSON:
		return "application/json"
	}
	return "application/x-ndjson"
}
