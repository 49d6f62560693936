package databasetest

import (
	"testing"

	"github.com/millrace-run/millrace/databases"
)

// Client is a connection for tests to look at a database, or to change it, beside the program.
type Client struct {
	t    testing.TB
	Conn databases.Conn
}

// Open connects with a database by its URL until the test ends.
func Open(t testing.TB, url string) *Client {
	t.Helper()
	a, err := databases.ParseAddress(url)
	if err == nil {
		err = a.MakeFile()
	}
	if err != nil {
		t.Fatal(err)
	}
	c, err := a.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return &Client{t, c}
}

// Exec runs statements, each of which must succeed.
func (c *Client) Exec(statements ...string) {
	c.t.Helper()
	for _, s := range statements {
		if _, err := c.Conn.Exec(c.t.Context(), s); err != nil {
			c.t.Fatalf("%.200s: %v", s, err)
		}
	}
}

// Rows are the rows of a query, each value as JSON.
func (c *Client) Rows(query string) [][]string {
	c.t.Helper()
	var all [][]string
	err := c.Conn.Select(c.t.Context(), query, nil, 0, func(_ []any, values [][]byte) error {
		row := make([]string, len(values))
		for i, v := range values {
			row[i] = string(v)
		}
		all = append(all, row)
		return nil
	})
	if err != nil {
		c.t.Fatalf("%.200s: %v", query, err)
	}
	return all
}

// Value is the only value of a query.
func (c *Client) Value(query string) string {
	c.t.Helper()
	rows := c.Rows(query)
	if len(rows) != 1 || len(rows[0]) != 1 {
		c.t.Fatalf("%.200s: %v is not one value", query, rows)
	}
	return rows[0][0]
}
