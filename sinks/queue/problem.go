package queue

import (
	"encoding/json"
	"net/http"
	"strconv"
)

// problem is a refusal as RFC 9457 has it; of the request nothing was done.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

// refuse answers with a problem. detail tells what to do.
func refuse(w http.ResponseWriter, status int, detail string) {
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", strconv.Itoa(1))
	}
	write(w, status, "application/problem+json", problem{"about:blank", http.StatusText(status), status, detail})
}

// write encodes v before anything is sent, so that a value that cannot be encoded is no half answer. An error of the connection is the
// client's: nobody is left to tell.
func write(w http.ResponseWriter, status int, contentType string, v any) {
	body, err := marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}

// verbatim is an answer that is JSON already.
type verbatim []byte

func marshal(v any) ([]byte, error) {
	if raw, ok := v.(verbatim); ok {
		return raw, nil
	}
	return json.Marshal(v)
}
