"""A Go program that serves HTTPS, asks for it or is a load of it, built with the machine's Go: with symbols and without."""

import os
import subprocess
from pathlib import Path

_SOURCE = """\
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"
)

func serve(certificate, key string, h2 bool) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr().(*net.TCPAddr).Port)
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hi") })}
	if !h2 {
		s.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){}
	}
	panic(s.ServeTLS(l, certificate, key))
}

func ask(certificate, port, count string, h2 bool) {
	pem, err := os.ReadFile(certificate)
	if err != nil {
		panic(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: h2}}
	for i := 0; i < number(count); i++ {
		r, err := c.Get("https://localhost:" + port + "/" + strconv.Itoa(i))
		if err != nil {
			panic(err)
		}
		io.Copy(io.Discard, r.Body)
		r.Body.Close()
	}
}

// Requests as lean as they can be, one at a time on each connection: at once, or every so many microseconds.
func load(port string, connections, count, every int) {
	done := make(chan bool)
	one := func() {
		c, err := tls.Dial("tcp", "127.0.0.1:"+port, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			panic(err)
		}
		answer := make([]byte, 4096)
		begin := time.Now()
		for i := 0; i < count/connections; i++ {
			time.Sleep(time.Until(begin.Add(time.Duration(i*every) * time.Microsecond)))
			fmt.Fprintf(c, "GET /%d HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n", i)
			n, err := c.Read(answer)
			if err != nil || n < 12 || string(answer[9:12]) != "200" {
				panic(fmt.Sprint(string(answer[:n]), err))
			}
		}
		done <- true
	}
	for i := 0; i < connections; i++ {
		go one()
	}
	for i := 0; i < connections; i++ {
		<-done
	}
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		panic(err)
	}
	return n
}

func main() {
	a := os.Args
	if a[1] == "serve" {
		serve(a[2], a[3], a[4] == "h2")
	} else if a[1] == "load" {
		load(a[2], number(a[3]), number(a[4]), number(a[5]))
	} else {
		ask(a[2], a[3], a[4], a[5] == "h2")
	}
}
"""


def build_go(directory: Path, *, stripped: bool = False) -> Path:
    """The program's path: `serve CERT KEY h1|h2` prints its port; `ask CERT PORT COUNT h1|h2`;
    `load PORT CONNECTIONS COUNT EVERY_US`."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "main.go").write_text(_SOURCE)
    (directory / "go.mod").write_text("module tlsprogram\n\ngo 1.21\n")
    target = directory / ("stripped" if stripped else "whole")
    flags = ["-ldflags=-s -w"] if stripped else []
    subprocess.run(
        ["go", "build", *flags, "-o", str(target), "."],
        cwd=directory,
        check=True,
        env={**os.environ, "GOFLAGS": "-mod=mod", "CGO_ENABLED": "0"},
    )
    return target
