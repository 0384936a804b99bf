"""Serves templates over HTTP and HTTPS for tests. Arguments: directory, certificate and key. Prints both ports.

/files/NAME      a file of the directory
/to-http/NAME    redirects to the file over HTTP
/to-https/NAME   redirects to the file over HTTPS
/to-file/NAME    redirects to a file of this machine
/loop            redirects to itself
/endless         sends bytes without end and without Content-Length
"""

import http.server
import os
import ssl
import sys
import threading


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path = self.path.split("?")[0]
        try:
            name = os.path.basename(path)
            if path.startswith("/to-http/"):
                self.redirect(f"http://127.0.0.1:{ports[0]}/files/{name}")
            elif path.startswith("/to-https/"):
                self.redirect(f"https://127.0.0.1:{ports[1]}/files/{name}")
            elif path.startswith("/to-file/"):
                self.redirect(f"file:///etc/{name}")
            elif path.startswith("/loop/"):
                self.redirect(self.path)
            elif path.startswith("/endless/"):
                self.send_response(200)
                self.end_headers()
                while True:
                    self.wfile.write(bytes(1 << 20))
            else:
                with open(os.path.join(sys.argv[1], name), "rb") as file:
                    content = file.read()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
        except FileNotFoundError:
            self.send_error(404)
        except OSError:
            pass

    def redirect(self, to):
        self.send_response(302)
        self.send_header("Location", to)
        self.end_headers()

    def log_message(self, *args):
        pass


def serve(context):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2], sys.argv[3])
ports = [serve(None), serve(context)]
print(*ports, flush=True)
sys.stdin.read()
