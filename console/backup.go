package console

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
)

const (
	// BackupType is the content type of a backup.
	BackupType = "application/vnd.sqlite3"
	// ProgressHeader has the bytes that were copied and those that there are, "12/40", in interim answers (102) before a backup.
	ProgressHeader = "Millrace-Progress"
)

// backup answers with a copy of the outbox. It is a POST: it costs the disk as much room as the outbox has, which no page of another
// site shall be able to take.
func (c *console) backup(w http.ResponseWriter, r *http.Request) {
	told := int64(-1)
	f, err := c.Instance.Backup(r.Context(), func(done, total int64) {
		if percent := 100 * done / max(1, total); percent != told {
			told = percent
			w.Header().Set(ProgressHeader, fmt.Sprintf("%d/%d", done, total))
			w.WriteHeader(http.StatusProcessing)
		}
	})
	w.Header().Del(ProgressHeader)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		problem(w, http.StatusNotImplemented, err.Error())
		return
	case err != nil:
		problem(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		problem(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	w.Header().Set("Content-Type", BackupType)
	w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	_, _ = io.Copy(w, f) // one that is cut short is seen by its length
}
