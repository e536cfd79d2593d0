// A peer for tests: HTTP/2 without TLS by net/http, and gRPC by grpc-go, as servers and as clients.
//
//	http2peer serve [HTTP GRPC [HTTPS PEM]]   prints "HTTP_PORT GRPC_PORT", serves until stdin ends; addresses to listen on
//	                                    instead of free ports of loopback; HTTPS speaks HTTP/2 with the PEM's key
//	http2peer get URL COUNT             GETs URL?n=0.. at once; a line of JSON for each
//	http2peer ask                       gets as `get` does for each line "URL COUNT" of stdin, each on a connection of its own
//	http2peer call ADDRESS METHOD COUNT [MS]  calls METHOD at once, one connection; a line of JSON for each; then lives for MS
//
// Messages of gRPC are raw bytes: a decimal number of milliseconds that the server takes.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const service = "farcall.test.Echo"

type raw struct{}

func (raw) Name() string                    { return "raw" }
func (raw) Marshal(v any) ([]byte, error)   { return *v.(*[]byte), nil }
func (raw) Unmarshal(b []byte, v any) error { *v.(*[]byte) = append([]byte(nil), b...); return nil }

func wait(message []byte) {
	ms, _ := strconv.Atoi(string(message))
	time.Sleep(time.Duration(ms) * time.Millisecond)
}

func unary(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	var in []byte
	if err := decode(&in); err != nil {
		return nil, err
	}
	wait(in)
	return &in, nil
}

func fail(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	var in []byte
	if err := decode(&in); err != nil {
		return nil, err
	}
	return nil, status.Error(codes.NotFound, "no such thing: é")
}

func stream(_ any, s grpc.ServerStream) error {
	var in []byte
	if err := s.RecvMsg(&in); err != nil {
		return err
	}
	for range 3 {
		if err := s.SendMsg(&in); err != nil {
			return err
		}
		wait(in)
	}
	return nil
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(addresses []string) {
	if len(addresses) == 0 {
		addresses = []string{"127.0.0.1:0", "127.0.0.1:0"}
	}
	web, err := net.Listen("tcp", addresses[0])
	check(err)
	calls, err := net.Listen("tcp", addresses[1])
	check(err)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		wait([]byte(r.URL.Query().Get("ms")))
		if code, err := strconv.Atoi(r.URL.Query().Get("status")); err == nil {
			w.WriteHeader(code)
		}
		size, _ := strconv.Atoi(r.URL.Query().Get("size"))
		w.Write(make([]byte, size))
	})
	go (&http.Server{Handler: handler, Protocols: protocols}).Serve(web)
	if len(addresses) > 2 {
		secure, err := net.Listen("tcp", addresses[2])
		check(err)
		go (&http.Server{Handler: handler}).ServeTLS(secure, addresses[3], addresses[3])
	}
	server := grpc.NewServer(grpc.ForceServerCodec(raw{}))
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: service,
		HandlerType: (*any)(nil),
		Methods:     []grpc.MethodDesc{{MethodName: "Unary", Handler: unary}, {MethodName: "Fail", Handler: fail}},
		Streams:     []grpc.StreamDesc{{StreamName: "Stream", Handler: stream, ServerStreams: true}},
	}, nil)
	go server.Serve(calls)
	fmt.Println(web.Addr().(*net.TCPAddr).Port, calls.Addr().(*net.TCPAddr).Port)
	io.Copy(io.Discard, os.Stdin)
}

type result struct {
	N      int     `json:"n"`
	MS     float64 `json:"ms"`
	Status int     `json:"status"`
	Error  string  `json:"error"`
}

func report(count int, one func(n int) (int, error)) {
	var all sync.WaitGroup
	var lock sync.Mutex
	out := json.NewEncoder(os.Stdout)
	for n := range count {
		all.Add(1)
		go func() {
			defer all.Done()
			begin := time.Now()
			code, err := one(n)
			r := result{N: n, MS: float64(time.Since(begin).Microseconds()) / 1000, Status: code}
			if err != nil {
				r.Error = err.Error()
			}
			lock.Lock()
			defer lock.Unlock()
			check(out.Encode(r))
		}()
	}
	all.Wait()
}

func get(url string, count int) {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	protocols.SetHTTP2(true)
	secure := &tls.Config{InsecureSkipVerify: true} // a test's own certificate
	client := http.Client{Transport: &http.Transport{Protocols: protocols, TLSClientConfig: secure}}
	report(count, func(n int) (int, error) {
		answer, err := client.Get(fmt.Sprintf("%s&n=%d", url, n))
		if err != nil {
			return 0, err
		}
		defer answer.Body.Close()
		_, err = io.Copy(io.Discard, answer.Body)
		return answer.StatusCode, err
	})
	client.CloseIdleConnections()
}

func ask() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var url string
		var count int
		_, err := fmt.Sscan(lines.Text(), &url, &count)
		check(err)
		get(url, count)
	}
}

func call(address, method string, count int) {
	link, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{})))
	check(err)
	defer link.Close()
	report(count, func(n int) (int, error) {
		in := []byte(strconv.Itoa(n % 20))
		context, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		trace := fmt.Sprintf("00-%032x-%016x-01", n+1, n+1)
		context = metadata.AppendToOutgoingContext(context, "traceparent", trace)
		err := invoke(context, link, "/"+service+"/"+method, method == "Stream", &in)
		return int(status.Code(err)), err
	})
}

func invoke(context context.Context, link *grpc.ClientConn, path string, streams bool, in *[]byte) error {
	var out []byte
	if !streams {
		return link.Invoke(context, path, in, &out)
	}
	s, err := link.NewStream(context, &grpc.StreamDesc{ServerStreams: true}, path)
	if err != nil {
		return err
	}
	if err := s.SendMsg(in); err != nil {
		return err
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	for {
		if err := s.RecvMsg(&out); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func main() {
	switch {
	case len(os.Args) >= 2 && os.Args[1] == "serve":
		serve(os.Args[2:])
	case len(os.Args) == 4 && os.Args[1] == "get":
		count, err := strconv.Atoi(os.Args[3])
		check(err)
		get(os.Args[2], count)
	case len(os.Args) == 2 && os.Args[1] == "ask":
		ask()
	case len(os.Args) >= 5 && os.Args[1] == "call":
		count, err := strconv.Atoi(os.Args[4])
		check(err)
		call(os.Args[2], os.Args[3], count)
		if len(os.Args) > 5 {
			wait([]byte(os.Args[5]))
		}
	default:
		fmt.Fprintln(os.Stderr, "usage: http2peer serve | get URL COUNT | ask | call ADDRESS METHOD COUNT")
		os.Exit(2)
	}
}
