// Many short connections whose ports come again at once: joins serve PORT | joins ask RUN COUNT RATE PORT….
//
// Each exchange has a path of its own that names the server it is sent to: /<run>/join/<place of the server>/<number>. A connection
// carries CALLS of them and is then reset, which frees its port for the next one; WORKERS of them are open at any time.
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	calls   = 4
	workers = 64
	from    = "127.71.7.9" // nobody else's ports
	first   = 20_000
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(port string) {
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
	listener, err := net.Listen("tcp", "127.0.0.1:"+port)
	check(err)
	for {
		link, err := listener.Accept()
		check(err)
		go func() {
			defer link.Close()
			reader := bufio.NewReader(link)
			for {
				request, err := http.ReadRequest(reader)
				if err != nil {
					return
				}
				io.Copy(io.Discard, request.Body)
				if _, err := link.Write(answer); err != nil {
					return
				}
			}
		}()
	}
}

// dial leaves from a port that a connection to the same server had a moment ago.
func dial(worker int, port string) (*net.TCPConn, error) {
	dialer := net.Dialer{
		LocalAddr: &net.TCPAddr{IP: net.ParseIP(from), Port: first + worker},
		Timeout:   20 * time.Second,
		Control: func(_, _ string, raw syscall.RawConn) error {
			return raw.Control(func(fd uintptr) {
				syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
			})
		},
	}
	link, err := dialer.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		return nil, err
	}
	return link.(*net.TCPConn), nil
}

func ask(run string, count int, rate float64, ports []string) {
	var next, failed atomic.Int64
	var all sync.WaitGroup
	begin := time.Now()
	for worker := range workers {
		all.Add(1)
		go func() {
			defer all.Done()
			for round := 0; ; round++ {
				at := int(next.Add(calls)) - calls
				if at >= count {
					return
				}
				time.Sleep(time.Until(begin.Add(time.Duration(float64(at) / rate * 1e9))))
				place := (worker + round) % len(ports)
				if err := exchange(worker, ports[place], fmt.Sprintf("/%s/join/%d", run, place), at); err != nil {
					failed.Add(1)
					fmt.Fprintln(os.Stderr, err)
				}
			}
		}()
	}
	all.Wait()
	fmt.Printf("%d %.3f\n", failed.Load(), time.Since(begin).Seconds())
}

func exchange(worker int, port, path string, number int) error {
	link, err := dial(worker, port)
	if err != nil {
		return err
	}
	defer link.Close()
	link.SetLinger(0) // a reset: no TIME_WAIT holds the port
	link.SetDeadline(time.Now().Add(20 * time.Second))
	reader := bufio.NewReader(link)
	for n := range calls {
		request := fmt.Sprintf("GET %s/%d HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", path, number+n)
		if _, err := io.WriteString(link, request); err != nil {
			return err
		}
		answer, err := http.ReadResponse(reader, nil)
		if err != nil {
			return err
		}
		io.Copy(io.Discard, answer.Body)
	}
	return nil
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == "serve" {
		serve(os.Args[2])
	}
	count, err := strconv.Atoi(os.Args[3])
	check(err)
	rate, err := strconv.ParseFloat(os.Args[4], 64)
	check(err)
	ask(os.Args[2], count, rate, os.Args[5:])
}
