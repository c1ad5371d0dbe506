"""What a client is told in the place of an answer."""


class HttpProblem(Exception):
    """An answer that is not 200: `status`, one `sentence`, when to come again (seconds), what to type next."""

    def __init__(self, status: int, sentence: str, retry_after: int | None = None, next_step: str = "") -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.retry_after = retry_after
        self.next_step = next_step
