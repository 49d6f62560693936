package email

import "encoding/json"

// progress is what an event's failure carries to its next attempt, as JSON.
type progress struct {
	// Accepted are the recipients that the server has taken the mail for. They are never mailed again.
	Accepted map[string]bool `json:"accepted,omitempty"`
	// Refused are those that it refused for good. They are not asked for again while others wait; a dead letter forgets them,
	// so that its redrive asks once more.
	Refused map[string]note `json:"refused,omitempty"`
	// Later counts the attempts that ended with "try again later".
	Later int `json:"later,omitempty"`
}

// note is a reply about one recipient.
type note struct {
	Stage string `json:"stage,omitempty"`
	Code  int    `json:"code,omitempty"`
	Text  string `json:"text,omitempty"`
}

// maxNote bounds the text of a note, in bytes: there may be a hundred.
const maxNote = 200

// readProgress never fails: what it cannot read was not written here, and says nothing.
func readProgress(b []byte) *progress {
	p := &progress{}
	if json.Unmarshal(b, p) != nil {
		p = &progress{}
	}
	if p.Accepted == nil {
		p.Accepted = map[string]bool{}
	}
	if p.Refused == nil {
		p.Refused = map[string]note{}
	}
	return p
}

// bytes is nil while there is nothing to keep.
func (p *progress) bytes() []byte {
	if len(p.Accepted) == 0 && len(p.Refused) == 0 && p.Later == 0 {
		return nil
	}
	b, _ := json.Marshal(p) // maps of text and numbers always can be written
	return b
}

// open returns the recipients that the mail must still go to.
func (p *progress) open(all []mailbox) []mailbox {
	var open []mailbox
	for _, r := range all {
		address := r.address()
		if _, refused := p.Refused[address]; !refused && !p.Accepted[address] {
			open = append(open, r)
		}
	}
	return open
}

func (p *progress) refuse(address string, r *refusal) {
	p.Refused[address] = note{Stage: r.stage, Code: r.code, Text: clean(r.text, maxNote)}
}

func (n note) refusal() *refusal { return &refusal{stage: n.Stage, code: n.Code, text: n.Text} }
