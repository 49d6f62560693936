package s3

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // what the protocol has for Content-MD5, which buckets with object lock demand
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/encrypt"

	"github.com/millrace-run/millrace/event"
)

// store is where objects go. put and sweep may be called concurrently, and return when ctx ends.
type store interface {
	open() error
	// put stores an object as a whole, in place of what has its key.
	put(ctx context.Context, o *object) error
	// sweep aborts every upload in parts to a key that was begun and not completed.
	sweep(ctx context.Context, key string) error
	// place is where people find a key.
	place(key string) string
	close()
}

func sumOf(body []byte) [32]byte { return sha256.Sum256(body) }

// remote is a store on the network. One call is one request, or those of one upload in parts: nothing is tried again behind the
// router's back.
type remote struct {
	bucket    string
	host      string
	partSize  int64
	ca        string
	options   minio.PutObjectOptions
	creds     *credentials.Credentials
	transport *http.Transport
	identity  *http.Transport // to whom credentials are asked for: what tls says is about the store
	core      *minio.Core
}

func newRemote(c *Config, where *url.URL, sse encrypt.ServerSide) (*remote, error) {
	r := &remote{
		bucket: c.Bucket, host: where.Host, partSize: c.PartSize, ca: c.TLS.CA,
		creds: c.Credentials.make(c.Region), transport: newTransport(&c.TLS), identity: newTransport(&TLS{}),
		options: minio.PutObjectOptions{
			UserMetadata: c.Metadata, UserTags: c.Tags, StorageClass: c.StorageClass, ServerSideEncryption: sse,
			DisableContentSha256: true, // the body is not signed in chunks: its sum is known, and sent
		},
	}
	lookup := minio.BucketLookupAuto
	if c.PathStyle {
		lookup = minio.BucketLookupPath
	}
	var err error
	r.core, err = minio.NewCore(where.Host, &minio.Options{
		Creds: r.creds, Secure: where.Scheme == "https", Region: c.Region, BucketLookup: lookup,
		MaxRetries: 1, Transport: &listener{r.transport},
	})
	return r, keyError("endpoint", err)
}

func newTransport(t *TLS) *http.Transport {
	return &http.Transport{
		Proxy:       http.ProxyFromEnvironment,
		DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext, TLSHandshakeTimeout: 10 * time.Second,
		MaxIdleConnsPerHost: sideBySide, IdleConnTimeout: time.Minute, DisableCompression: true,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: t.Insecure}, //nolint:gosec // the user's wish
	}
}

// open reads the certificates.
func (r *remote) open() error {
	if r.ca == "" || r.transport.TLSClientConfig.RootCAs != nil {
		return nil
	}
	text, err := os.ReadFile(r.ca)
	if err != nil {
		return fmt.Errorf("tls.ca: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return fmt.Errorf("tls.ca: there is no certificate in %s", r.ca)
	}
	r.transport.TLSClientConfig.RootCAs = roots
	return nil
}

func (r *remote) close() {
	r.transport.CloseIdleConnections()
	r.identity.CloseIdleConnections()
}

func (r *remote) place(key string) string { return "s3://" + r.bucket + "/" + key }

func (r *remote) put(ctx context.Context, o *object) error {
	return r.ask(ctx, o, func(ctx context.Context) error {
		if int64(len(o.body)) > r.partSize {
			return r.putParts(ctx, o)
		}
		sum := hex.EncodeToString(o.sum[:])
		_, err := r.core.PutObject(ctx, r.bucket, o.Key, bytes.NewReader(o.body), int64(len(o.body)), md5Of(o.body), sum, r.optionsOf(o))
		return err
	})
}

// putParts uploads an object in parts. What it cannot complete it aborts; what it cannot abort is left to the sweep before the next
// attempt.
func (r *remote) putParts(ctx context.Context, o *object) error {
	id, err := r.core.NewMultipartUpload(ctx, r.bucket, o.Key, r.optionsOf(o))
	if err != nil {
		return err
	}
	var parts []minio.CompletePart
	for body := range slices.Chunk(o.body, int(r.partSize)) {
		sum := sumOf(body)
		options := minio.PutObjectPartOptions{
			Md5Base64: md5Of(body), Sha256Hex: hex.EncodeToString(sum[:]), SSE: r.customerKey(), DisableContentSha256: true,
		}
		part, err := r.core.PutObjectPart(ctx, r.bucket, o.Key, id, len(parts)+1, bytes.NewReader(body), int64(len(body)), options)
		if err != nil {
			_ = r.core.AbortMultipartUpload(ctx, r.bucket, o.Key, id)
			return err
		}
		parts = append(parts, minio.CompletePart{PartNumber: len(parts) + 1, ETag: part.ETag})
	}
	end := minio.PutObjectOptions{ServerSideEncryption: r.customerKey()}
	if _, err = r.core.CompleteMultipartUpload(ctx, r.bucket, o.Key, id, parts, end); err != nil {
		_ = r.core.AbortMultipartUpload(ctx, r.bucket, o.Key, id)
	}
	return err
}

func (r *remote) optionsOf(o *object) minio.PutObjectOptions {
	options := r.options
	options.ContentType = o.Form.mediaType()
	return options
}

// customerKey is what the later requests of an upload in parts need of the encryption.
func (r *remote) customerKey() encrypt.ServerSide {
	if e := r.options.ServerSideEncryption; e != nil && e.Type() == encrypt.SSEC {
		return e
	}
	return nil
}

func (r *remote) sweep(ctx context.Context, key string) error {
	return r.ask(ctx, nil, func(ctx context.Context) error {
		var keyMarker, idMarker string
		for {
			page, err := r.core.ListMultipartUploads(ctx, r.bucket, key, keyMarker, idMarker, "", 1000)
			if codeOf(err) == minio.NoSuchUpload { // of a store that has none at all
				return nil
			}
			if err != nil {
				return err
			}
			for _, u := range page.Uploads {
				if u.Key != key {
					continue
				}
				if err := r.core.AbortMultipartUpload(ctx, r.bucket, key, u.UploadID); err != nil && codeOf(err) != minio.NoSuchUpload {
					return err
				}
			}
			if keyMarker, idMarker = page.NextKeyMarker, page.NextUploadIDMarker; !page.IsTruncated {
				return nil
			}
		}
	})
}

// ask makes requests with credentials that are valid, and gives a failure its verdict.
func (r *remote) ask(ctx context.Context, o *object, do func(ctx context.Context) error) error {
	// Asked for here they are fetched within ctx; the library would do it in a goroutine that nobody waits for.
	client := &http.Client{Transport: r.identity}
	_, err := r.creds.GetWithContext(&credentials.CredContext{Client: client, Endpoint: r.core.EndpointURL().String(), Context: ctx})
	if err != nil {
		return event.Unavailable(fmt.Errorf("no credentials: %w", err))
	}
	var heard answer
	if err := do(context.WithValue(ctx, answerKey{}, &heard)); err != nil {
		return r.failure(err, o, &heard)
	}
	return nil
}

func md5Of(body []byte) string {
	sum := md5.Sum(body) //nolint:gosec // see above
	return base64.StdEncoding.EncodeToString(sum[:])
}

// make returns where requests take their credentials from. Nothing is read before the first request.
func (c *Credentials) make(region string) *credentials.Credentials {
	if c.AccessKey != "" {
		return credentials.NewStaticV4(c.AccessKey, c.SecretKey, c.SessionToken)
	}
	env, role := &credentials.EnvAWS{}, &credentials.IAM{Region: region}
	file := &credentials.FileAWSCredentials{Filename: c.File, Profile: c.Profile}
	switch c.From {
	case fromEnv:
		return credentials.New(&insist{Provider: env, hint: "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"})
	case fromFile:
		return credentials.New(&insist{Provider: file, hint: "the profile has no aws_access_key_id and aws_secret_access_key"})
	case fromRole:
		return credentials.New(&insist{Provider: role, hint: "there is no role of an instance, task or pod"})
	}
	return credentials.New(&insist{
		Provider: &credentials.Chain{Providers: []credentials.Provider{env, file, role}},
		hint: "neither the environment, nor the shared credentials file, nor a role has any; set credentials.access_key and " +
			"credentials.secret_key, or credentials.from",
	})
}

// insist is a provider that fails where the library would go on without a signature.
type insist struct {
	credentials.Provider
	hint string
}

// RetrieveWithCredContext implements credentials.Provider.
func (i *insist) RetrieveWithCredContext(cc *credentials.CredContext) (credentials.Value, error) {
	v, err := i.Provider.RetrieveWithCredContext(cc)
	if err == nil && (v.AccessKeyID == "" || v.SecretAccessKey == "") {
		err = errors.New(i.hint)
	}
	return v, err
}
