package console

import (
	"encoding/json"
	"net/http"
)

// problem answers with an error as RFC 9457 has it. detail says what to do.
func problem(w http.ResponseWriter, status int, detail string) {
	write(w, status, "application/problem+json", struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
	}{"about:blank", http.StatusText(status), status, detail})
}

// writeJSON answers with v.
func writeJSON(w http.ResponseWriter, v any) { write(w, http.StatusOK, "application/json", v) }

// write encodes v before anything is sent, so that a value that cannot be encoded is no half answer. An error of the
// connection is the client's: nobody is left to tell.
func write(w http.ResponseWriter, status int, contentType string, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}
