package s3

import (
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/minio/minio-go/v7/pkg/encrypt"
	"github.com/minio/minio-go/v7/pkg/s3utils"
	"github.com/minio/minio-go/v7/pkg/tags"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/rules"
)

// Config is what a user may set. The zero value is not valid: begin with Defaults.
type Config struct {
	Bucket       string            `yaml:"bucket,required" doc:"The bucket. It must exist."`
	Key          rules.Template    `yaml:"key" doc:"What keys begin with, such as orders/{{ subject }}/; each such prefix has objects of its own."`
	Endpoint     string            `yaml:"endpoint" doc:"http:// or https://, host and port; Amazon S3 in the region if empty."`
	Region       string            `yaml:"region" doc:"The region of the bucket. Other stores than Amazon's take any, most of them."`
	PathStyle    bool              `yaml:"path_style" doc:"Put the bucket into the path at Amazon, Google and Alibaba too; elsewhere it always is."`
	Credentials  Credentials       `yaml:"credentials" doc:"How requests are signed."`
	Content      string            `yaml:"content,oneof=event|data|raw" doc:"event: structured CloudEvents; data: the data as JSON; raw: the data as it is."`
	Format       string            `yaml:"format,oneof=ndjson|json" doc:"ndjson: one event a line; json: an array."`
	Compress     string            `yaml:"compress,oneof=none|gzip|zstd" doc:"none, gzip or zstd."`
	Size         int64             `yaml:"size,size,min=1KiB,max=256MiB" doc:"Store an object when its events have so many bytes, or are 32,768; twice as much is held in memory."`
	Age          time.Duration     `yaml:"age,min=1ms,max=1h" doc:"Store an object at the latest so long after its first event came."`
	PartSize     int64             `yaml:"part_size,size,min=5MiB,max=256MiB" doc:"A larger object goes in parts of this size."`
	SSE          SSE               `yaml:"sse" doc:"Encryption by the store."`
	StorageClass string            `yaml:"storage_class" doc:"Such as STANDARD_IA; the store's default if empty."`
	Tags         map[string]string `yaml:"tags" doc:"Tags of each object, at most 10."`
	Metadata     map[string]string `yaml:"metadata" doc:"User metadata of each object (x-amz-meta-…)."`
	TLS          TLS               `yaml:"tls" doc:"For https."`
}

// Credentials say who asks. The zero value looks where Amazon's tools look.
type Credentials struct {
	From         string `yaml:"from,oneof=auto|env|file|role" doc:"The environment (AWS_ACCESS_KEY_ID …), the shared credentials file, a role; auto: the first that has some."`
	AccessKey    string `yaml:"access_key,secret" doc:"An access key, in place of from."`
	SecretKey    string `yaml:"secret_key,secret" doc:"Its secret."`
	SessionToken string `yaml:"session_token,secret" doc:"The token of temporary credentials."`
	File         string `yaml:"file" doc:"The shared credentials file, if it is not where Amazon's tools look."`
	Profile      string `yaml:"profile" doc:"The profile in it. Default: AWS_PROFILE, or default."`
}

// SSE is server-side encryption.
type SSE struct {
	Type  string `yaml:"type,oneof=AES256|aws:kms|customer" doc:"AES256: keys of the store; aws:kms; customer: a key of yours, over https only."`
	KeyID string `yaml:"key_id" doc:"For aws:kms: the key; the bucket's or the account's own if empty."`
	Key   string `yaml:"key,secret" doc:"For customer: 32 bytes in base64. Who reads the objects needs it too."`
}

// TLS says which certificates are trusted.
type TLS struct {
	CA       string `yaml:"ca" doc:"A PEM file of certificates to trust in place of the machine's; read when the sink is first used."`
	Insecure bool   `yaml:"insecure" doc:"Trust any certificate. For tests."`
}

const (
	contentEvent = "event"
	contentData  = "data"
	contentRaw   = "raw"

	formatNDJSON = "ndjson"
	formatJSON   = "json"

	compressNone = "none"
	compressGzip = "gzip"
	compressZstd = "zstd"

	fromAuto = "auto"
	fromEnv  = "env"
	fromFile = "file"
	fromRole = "role"

	sseStore    = "AES256"
	sseKMS      = "aws:kms"
	sseCustomer = "customer"
)

// Defaults returns the settings that apply where a user sets none.
func Defaults() Config {
	return Config{
		Region: "us-east-1", Credentials: Credentials{From: fromAuto},
		Content: contentEvent, Format: formatNDJSON, Compress: compressNone,
		Size: 8 << 20, Age: 10 * time.Second, PartSize: 16 << 20,
	}
}

// Option is a setting that the program makes, not the user.
type Option func(*Sink)

// Logger is where the sink reports what it could not clean up. Without it nothing is reported.
func Logger(l *slog.Logger) Option { return func(s *Sink) { s.log = l } }

// Into stores objects as files below a folder, as bucket/key, and does not wait for more events. Nobody is asked over the network.
func Into(path string) Option {
	return func(s *Sink) { s.age, s.store = 0, folder{path: path, bucket: s.bucket} }
}

// New checks the settings and returns the sink. It connects to nothing and reads no file. Its error joins one *event.KeyError for
// each fault.
func New(c Config, options ...Option) (*Sink, error) {
	where, endpointErr := c.endpoint()
	sse, sseErr := c.SSE.make(where)
	_, tagErr := tags.NewTags(c.Tags, true)
	err := errors.Join(
		keyError("bucket", checkBucket(c.Bucket)), keyError("key", checkPrefix(c.Key)), keyError("endpoint", endpointErr),
		keyError("region", checkRegion(c.Region)), c.Credentials.check(), keyError("format", c.checkFormat()), sseErr,
		keyError("tags", tagErr), checkMetadata(c.Metadata), c.TLS.check(where),
	)
	if err != nil {
		return nil, err
	}
	s := &Sink{
		bucket: c.Bucket, prefix: c.Key, size: c.Size, age: c.Age, partSize: c.PartSize,
		encoder: c.encoder(), log: slog.New(slog.DiscardHandler), most: usualMost,
	}
	if s.store, err = newRemote(&c, where, sse); err != nil {
		return nil, err
	}
	for _, o := range options {
		o(s)
	}
	return s, nil
}

func (c *Config) encoder() encoder {
	return encoder{c.Content, c.Format, c.Compress}
}

// keyError keeps nil a nil interface.
func keyError(key string, err error) error {
	if err == nil {
		return nil
	}
	return &event.KeyError{Key: key, Err: err}
}

func checkBucket(name string) error {
	switch {
	case name == "":
		return errors.New("required")
	case strings.Contains(name, "://"):
		return errors.New("a name is expected, not a URL: the store is endpoint, what keys begin with is key")
	case strings.Contains(name, "/"):
		return errors.New("a name is expected, without /: what keys begin with is key")
	}
	if s3utils.CheckValidBucketNameStrict(name) != nil {
		return fmt.Errorf("%q is no name of a bucket: 3 to 63 lower-case letters, digits, dots and hyphens, "+
			"with a letter or digit at both ends", name)
	}
	return nil
}

// checkPrefix looks at the literal text of a template.
func checkPrefix(t rules.Template) error {
	source := t.String()
	literal, whole := t.Literal()
	if !whole {
		literal = t.Prefix()
	}
	switch {
	case strings.TrimSpace(source) != source:
		return errors.New("there is white space around it")
	case strings.Contains(literal, "://"):
		return errors.New("it is what keys begin with, not a URL: name the bucket in bucket")
	}
	return checkKey(literal)
}

var regionForm = regexp.MustCompile(`^[A-Za-z0-9-]+$`)

func checkRegion(region string) error {
	if !regionForm.MatchString(region) {
		return fmt.Errorf("%q is no name of a region, such as eu-central-1", region)
	}
	return nil
}

// endpoint is where the store is.
func (c *Config) endpoint() (*url.URL, error) {
	if c.Endpoint == "" {
		return &url.URL{Scheme: "https", Host: "s3." + c.Region + ".amazonaws.com"}, nil
	}
	u, err := url.Parse(c.Endpoint)
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		return nil, errors.New("expected http:// or https://, a host and perhaps a port")
	case u.User != nil:
		return nil, errors.New("credentials do not belong in a URL: use credentials.access_key and credentials.secret_key")
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("there must be nothing behind host and port: the bucket is bucket, what keys begin with is key")
	}
	return u, nil
}

func (c *Credentials) check() error {
	var faults []error
	explicit := c.AccessKey != "" || c.SecretKey != "" || c.SessionToken != ""
	if explicit && c.AccessKey == "" {
		faults = append(faults, keyError("credentials.access_key", errors.New("required beside secret_key and session_token")))
	}
	if explicit && c.SecretKey == "" {
		faults = append(faults, keyError("credentials.secret_key", errors.New("required beside access_key")))
	}
	if explicit && c.From != fromAuto {
		faults = append(faults, keyError("credentials.from", errors.New("it has no meaning beside access_key: remove one of them")))
	}
	for key, set := range map[string]string{"credentials.file": c.File, "credentials.profile": c.Profile} {
		if set != "" && (explicit || c.From == fromEnv || c.From == fromRole) {
			faults = append(faults, keyError(key, errors.New("only credentials from a file have it: write from: file")))
		}
	}
	return errors.Join(faults...)
}

func (c *Config) checkFormat() error {
	if c.Format == formatJSON && c.Content == contentRaw {
		return errors.New("raw data makes no JSON array: use ndjson, or content: data")
	}
	return nil
}

func (e *SSE) make(where *url.URL) (encrypt.ServerSide, error) {
	var faults []error
	if e.KeyID != "" && e.Type != sseKMS {
		faults = append(faults, keyError("sse.key_id", errors.New("only type: aws:kms has it")))
	}
	if e.Key != "" && e.Type != sseCustomer {
		faults = append(faults, keyError("sse.key", errors.New("only type: customer has it")))
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	switch e.Type {
	case sseStore:
		return encrypt.NewSSE(), nil
	case sseKMS:
		return encrypt.NewSSEKMS(e.KeyID, nil)
	case sseCustomer:
		key, err := base64.StdEncoding.DecodeString(e.Key)
		if err != nil || len(key) != 32 {
			return nil, keyError("sse.key", errors.New("expected 32 bytes in base64"))
		}
		if where != nil && where.Scheme != "https" {
			return nil, keyError("sse.type", errors.New("a key is sent over https only"))
		}
		return encrypt.NewSSEC(key)
	}
	return nil, nil
}

func (t *TLS) check(where *url.URL) error {
	switch {
	case where == nil || *t == TLS{}:
		return nil
	case where.Scheme != "https":
		return keyError("tls", errors.New("it has no meaning for http://"))
	case t.Insecure && t.CA != "":
		return keyError("tls.ca", errors.New("it has no meaning beside insecure: true"))
	}
	return nil
}

var metadataName = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

func checkMetadata(all map[string]string) error {
	var faults []error
	for name, value := range all {
		switch {
		case !metadataName.MatchString(name):
			faults = append(faults, keyError("metadata."+name, errors.New("a name has letters, digits, _ and - only")))
		case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }):
			faults = append(faults, keyError("metadata."+name, errors.New("a value has printable ASCII characters only")))
		}
	}
	slices.SortFunc(faults, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(faults...)
}
