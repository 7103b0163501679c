#!/usr/bin/env python3
"""Checks links, without the network: links.py BOOK checks the site in the folder BOOK; without an argument, every
Markdown file of the checkout. Links to other hosts are not followed."""
import html.parser
import os
import re
import subprocess
import sys
import urllib.parse


class Page(html.parser.HTMLParser):
    """Collects the targets of links and images, and the names of anchors."""

    def __init__(self):
        super().__init__()
        self.links, self.anchors = [], set()

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name == "id" or (name == "name" and tag == "a"):
                self.anchors.add(value)
            elif name in ("href", "src") and value:
                self.links.append(value)


def elsewhere(link):
    return link.startswith("//") or bool(urllib.parse.urlsplit(link).scheme)


def check_book(root):
    pages = {}
    for folder, _, files in os.walk(root):
        for name in files:
            if name.endswith(".html"):
                path = os.path.join(folder, name)
                with open(path, encoding="utf-8") as file:
                    pages[path] = Page()
                    pages[path].feed(file.read())
    for path, page in sorted(pages.items()):
        # The error page's links are relative to the site's root; the print page repeats all other pages.
        if os.path.basename(path) in ("404.html", "print.html"):
            continue
        for link in page.links:
            if elsewhere(link):
                continue
            parts = urllib.parse.urlsplit(link)
            target = path
            if parts.path:
                target = os.path.normpath(os.path.join(os.path.dirname(path), urllib.parse.unquote(parts.path)))
            if os.path.isdir(target):
                target = os.path.join(target, "index.html")
            if not os.path.exists(target):
                yield f"{path}: {link}: there is no such file"
            elif parts.fragment and target in pages and urllib.parse.unquote(parts.fragment) not in pages[target].anchors:
                yield f"{path}: {link}: there is no such heading"


def check_markdown():
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "*.md"], capture_output=True, text=True, check=True)
    for path in listed.stdout.splitlines():
        with open(path, encoding="utf-8") as file:
            text = re.sub(r"^```.*?^```", "", file.read(), flags=re.M | re.S)
        text = re.sub(r"`[^`\n]*`", "", text)
        for link in re.findall(r"\]\(([^()\s]+)\)", text):
            target = urllib.parse.unquote(urllib.parse.urlsplit(link).path)
            if not elsewhere(link) and target and not os.path.exists(os.path.join(os.path.dirname(path), target)):
                yield f"{path}: {link}: there is no such file"


broken = list(check_book(sys.argv[1]) if len(sys.argv) > 1 else check_markdown())
print("\n".join(broken) or "all links resolve")
sys.exit(bool(broken))
