"""What is done in Redis, each in one step of the server's: either all of it has happened or nothing.

KEYS: the lock; its record, a hash; who waits, a sorted set by arrival; when those were last seen, a hash.  ARGV begins with a
number that the answer repeats, so that it cannot be taken for another's, and the token of whoever asks.

A script reads all that it needs before it writes, so that a key of a wrong type leaves nothing half done.
"""

from __future__ import annotations

from typing import Final

STALE_MS: Final = 2_500  # who waits and has not looked for so long has gone, or was stopped
LOOK_MS: Final = 1_000  # who waits looks again after so long: redis-py's own Lock wakes nobody, nor does a death
CLAIM_MS: Final = 500  # whom the lock is handed to has so long to take it, and else loses its place

_BEGIN = """
local nonce, token = ARGV[1], ARGV[2]
local has = redis.call('get', KEYS[1])
local by = redis.call('hget', KEYS[2], 'by')
local clock = redis.call('time')
local now = math.floor(clock[1] * 1000 + clock[2] / 1000)

-- The first of those who wait; whoever is not there any more is forgotten.
local function find_heir()
    for _, waiter in ipairs(redis.call('zrange', KEYS[3], 0, -1)) do
        local seen = tonumber(redis.call('hget', KEYS[4], waiter) or '0')
        if now - seen < STALE then return waiter end
        redis.call('zrem', KEYS[3], waiter)
        redis.call('hdel', KEYS[4], waiter)
    end
    return false
end

local function forget(waiter)
    redis.call('zrem', KEYS[3], waiter)
    redis.call('hdel', KEYS[4], waiter)
end
""".replace("STALE", str(STALE_MS))

# ARGV: the lease in ms, who, whether it will wait.  {nonce, 1, fence, recovered}, or {nonce, 0, after how many ms to look again}.
# The fence number begins with the server's time, so that it grows even where the record was lost, as with a restart.
ASK: Final = (
    _BEGIN
    + """
local last = tonumber(redis.call('hget', KEYS[2], 'fence') or '0') or 0
local absent = redis.call('hget', KEYS[2], 'heir')
if absent and absent ~= has and absent ~= token then forget(absent) end
local heir = find_heir()
if has == token or (not has and (not heir or heir == token)) then
    local recovered = by and 1 or 0
    if by == token then  -- the answer was lost: once more
        recovered = tonumber(redis.call('hget', KEYS[2], 'recovered') or '0')
    end
    local fence = clock[1] * 1000000 + clock[2]
    if fence <= last then fence = last + 1 end
    fence = string.format('%.0f', fence)
    redis.call('set', KEYS[1], token, 'px', ARGV[3])
    redis.call('hdel', KEYS[2], 'heir')
    redis.call('hset', KEYS[2], 'fence', fence, 'by', token, 'who', ARGV[4], 'recovered', recovered)
    forget(token)
    return {nonce, 1, fence, recovered}
end
local look = LOOK
if has then
    local left = redis.call('pttl', KEYS[1])
    if left >= 0 and left < look then look = left + 1 end
end
if ARGV[5] == '1' then
    redis.call('zadd', KEYS[3], 'nx', clock[1] * 1000000 + clock[2], token)
    redis.call('hset', KEYS[4], token, now)
    redis.call('pexpire', KEYS[3], KEPT)
    redis.call('pexpire', KEYS[4], KEPT)
end
return {nonce, 0, look}
""".replace("LOOK", str(LOOK_MS)).replace("KEPT", str(10 * LOOK_MS))
)

# {nonce, whether it was still ours}
EXTEND: Final = """
if redis.call('get', KEYS[1]) ~= ARGV[2] then return {ARGV[1], 0} end
redis.call('pexpire', KEYS[1], ARGV[3])
return {ARGV[1], 1}
"""

# The lock is handed to the first who waits, which is woken by a list of its own; nobody comes between.  Also how a wait is given
# up, which may have been handed it just now.  ARGV: what the list's name begins with, whether its owner ends inside, which the
# next one is told.  {nonce, whether it was ours}; once more says the same.
GIVE_BACK: Final = (
    _BEGIN
    + """
local last = redis.call('hget', KEYS[2], 'last')
forget(token)
if has ~= token then return {nonce, last == token and 1 or 0} end
if by == token and ARGV[4] == '0' then redis.call('hdel', KEYS[2], 'by', 'who') end
redis.call('hset', KEYS[2], 'last', token)
local heir = find_heir()
if heir then
    redis.call('set', KEYS[1], heir, 'px', CLAIM)
    redis.call('hset', KEYS[2], 'heir', heir)
    redis.call('rpush', ARGV[3] .. heir, 1)
    redis.call('pexpire', ARGV[3] .. heir, KEPT)
else
    redis.call('del', KEYS[1])
end
return {nonce, 1}
""".replace("CLAIM", str(CLAIM_MS)).replace("KEPT", str(10 * LOOK_MS))
)

# {nonce, the token that has it, whose who is noted, who}
LOOK: Final = """
local noted = redis.call('hmget', KEYS[2], 'by', 'who')
return {ARGV[1], redis.call('get', KEYS[1]), noted[1], noted[2]}
"""
