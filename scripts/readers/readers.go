// Servers of net/http that say in the header X-Read which topic they were asked for.
// Usage: readers FIRST_PORT; the ports are those of readers.py.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"strconv"
	"strings"
)

func topic(text, room string) string {
	parts := strings.Split(text, "/")
	if len(parts) > 2 && parts[len(parts)-1] == "" {
		parts = parts[:len(parts)-1]
	}
	if len(parts) == 2 && parts[1] == "ws" {
		return ws(room)
	}
	if len(parts) < 3 || len(parts) > 4 || parts[1] != "r" || parts[2] == "" {
		return "none"
	}
	if len(parts) == 3 {
		if parts[2] == "admin" {
			return "admin"
		}
		return "id"
	}
	if parts[3] == "keys" {
		return "keys"
	}
	return "part"
}

func ws(room string) string {
	if room == "admin" {
		return "ws-admin"
	}
	return "ws"
}

func say(answer string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { w.Header().Set("X-Read", answer) }
}

func main() {
	port, err := strconv.Atoi(os.Args[1])
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/r/admin", say("admin"))
	mux.HandleFunc("/r/{id}", say("id"))
	mux.HandleFunc("/r/{id}/keys", say("keys"))
	mux.HandleFunc("/r/{id}/{part}", say("part"))
	mux.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) {
		say(ws(r.URL.Query().Get("room")))(w, r)
	})
	decoded := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		say(topic(r.URL.Path, r.URL.Query().Get("room")))(w, r)
	})
	cleaned := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		say(topic(path.Clean(r.URL.Path), r.URL.Query().Get("room")))(w, r)
	})
	for index, handler := range []http.Handler{mux, decoded, cleaned} {
		server := &http.Server{Addr: fmt.Sprintf("127.0.0.1:%d", port+index), Handler: handler}
		go func() { panic(server.ListenAndServe()) }()
	}
	io.Copy(io.Discard, os.Stdin)
}
