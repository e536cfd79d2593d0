// The same in Go: server PORT NEXT RUN.
package main

import (
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"os"
	"strings"
	"time"
)

func call(path string) {
	answer, err := http.Get("http://127.0.0.1:" + os.Args[2] + path)
	if err != nil {
		panic(err)
	}
	io.Copy(io.Discard, answer.Body)
	answer.Body.Close()
}

func main() {
	http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = 64
	go func() {
		for number := 0; ; number++ {
			call(fmt.Sprintf("/%s/background/go/%d", os.Args[3], number))
			time.Sleep(50 * time.Millisecond)
		}
	}()
	http.ListenAndServe("127.0.0.1:"+os.Args[1], http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(time.Duration(rand.Intn(4)) * time.Millisecond)
		call(strings.Replace(r.URL.Path, "/front/", "/middle/", 1))
		w.Write([]byte("hi"))
	}))
}
