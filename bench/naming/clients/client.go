// SPDX-License-Identifier: Apache-2.0

// A client that does what it is told, as client.c; the resolver is Go's own (built without cgo).
// `eyeballs NAME PORT` resolves and connects by net.Dial, both families in a race (RFC 8305). `get URL` and `get2 URL` ask by
// net/http, the second over HTTP/2 whether there is TLS or not; certificates are not checked.
// `dot SERVER PORT NAME` and `doh SERVER PORT NAME` look a name up over TLS and over HTTPS.
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

const wait = 5 * time.Second

var (
	found   []net.IP
	links   [4]net.Conn
	current int
	said    []string
)

func resolve(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	found = nil
	addresses, err := net.DefaultResolver.LookupIPAddr(ctx, name)
	if err != nil {
		said = append(said, "unresolved")
		return nil
	}
	for _, address := range addresses {
		found = append(found, address.IP)
	}
	said = append(said, "resolved")
	return nil
}

func address(text string) (string, error) {
	if text[0] != '@' {
		return text, nil
	}
	if text == "@last" && len(found) > 0 {
		return found[len(found)-1].String(), nil
	}
	for _, ip := range found {
		isV4 := ip.To4() != nil
		if text == "@" || isV4 == (text == "@4") {
			return ip.String(), nil
		}
	}
	return "", fmt.Errorf("no address")
}

func connect(to, port string) error {
	ip, err := address(to)
	if err != nil {
		return err
	}
	links[current], err = net.DialTimeout("tcp", net.JoinHostPort(ip, port), wait)
	return err
}

func readUntil(text string) error {
	wanted, err := hex.DecodeString(text)
	if err != nil {
		return err
	}
	links[current].SetReadDeadline(time.Now().Add(wait))
	var have []byte
	for more := make([]byte, 8192); !bytes.Contains(have, wanted); {
		n, err := links[current].Read(more)
		if err != nil {
			return err
		}
		have = append(have, more[:n]...)
	}
	return nil
}

func get(url string, isHTTP2 bool) error {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!isHTTP2)
	protocols.SetHTTP2(isHTTP2)
	protocols.SetUnencryptedHTTP2(isHTTP2)
	transport := &http.Transport{Protocols: protocols, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer transport.CloseIdleConnections()
	answer, err := (&http.Client{Transport: transport, Timeout: wait}).Get(url)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	return err
}

// DNS over TLS (RFC 7858) by Go's own resolver.
func resolveOverTLS(server, port, name string) error {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
		return dialer.DialContext(ctx, "tcp", net.JoinHostPort(server, port))
	}
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	var err error
	resolver := net.Resolver{PreferGo: true, StrictErrors: true, Dial: dial}
	found, err = resolver.LookupIP(ctx, "ip4", name+".")
	return err
}

// DNS over HTTPS (RFC 8484) by net/http; the address is the end of our servers' answers.
func resolveOverHTTPS(server, port, name string) error {
	question := []byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00")
	for _, label := range strings.Split(name, ".") {
		question = append(append(question, byte(len(label))), label...)
	}
	question = append(question, "\x00\x00\x01\x00\x01"...)
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer transport.CloseIdleConnections()
	url := "https://" + net.JoinHostPort(server, port) + "/dns-query"
	client := http.Client{Transport: transport, Timeout: wait}
	answer, err := client.Post(url, "application/dns-message", bytes.NewReader(question))
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && len(body) < net.IPv4len {
		err = fmt.Errorf("no address")
	}
	if err != nil {
		return err
	}
	found = []net.IP{body[len(body)-net.IPv4len:]}
	return nil
}

func takeStep(words []string) error {
	var err error
	switch words[0] {
	case "resolve":
		return resolve(words[1])
	case "dot":
		return resolveOverTLS(words[1], words[2], words[3])
	case "doh":
		return resolveOverHTTPS(words[1], words[2], words[3])
	case "connect":
		return connect(words[1], words[2])
	case "eyeballs":
		links[current], err = net.DialTimeout("tcp", net.JoinHostPort(words[1], words[2]), wait)
		return err
	case "use":
		current, err = strconv.Atoi(words[1])
		return err
	case "send":
		raw, err := hex.DecodeString(words[1])
		if err != nil {
			return err
		}
		_, err = links[current].Write(raw)
		return err
	case "read":
		links[current].SetReadDeadline(time.Now().Add(wait))
		_, err = links[current].Read(make([]byte, 8192))
		return err
	case "until":
		return readUntil(words[1])
	case "get", "get2":
		return get(words[1], words[0] == "get2")
	case "close":
		return links[current].Close()
	case "sleep":
		ms, err := strconv.Atoi(words[1])
		time.Sleep(time.Duration(ms) * time.Millisecond)
		return err
	}
	return fmt.Errorf("no such step")
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		said = nil
		result := "ok"
		for _, step := range strings.Split(lines.Text(), ";") {
			if err := takeStep(strings.Fields(step)); err != nil {
				result = "failed"
				break
			}
		}
		fmt.Println(strings.Join(append([]string{result}, said...), " "))
	}
}
